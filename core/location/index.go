package location

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// This file keeps the five indexes of Location in step. Its functions run
// under Location.mu.

func (id DeviceID) compare(o DeviceID) int {
	return cmp.Or(strings.Compare(id.AOR, o.AOR), strings.Compare(id.Instance, o.Instance))
}

// add makes an empty device.
func (l *Location) add(id DeviceID) *device {
	d := &device{index: -1}
	d.id = DeviceID{AOR: strings.Clone(id.AOR), Instance: strings.Clone(id.Instance)}
	l.devices[d.id] = d
	l.aors[d.id.AOR] = append(l.aors[d.id.AOR], d)
	return d
}

// drop forgets a device and all that leads to it.
func (l *Location) drop(d *device) {
	l.dropBindings(d, func(*binding) bool { return true })
	l.dropTokens(d, func(*Token) bool { return true })
	l.due.Remove(d)
	delete(l.devices, d.id)
	rest := without(l.aors[d.id.AOR], d)
	if len(rest) == 0 {
		delete(l.aors, d.id.AOR)
		return
	}
	l.aors[d.id.AOR] = rest
}

// index makes b findable by its token and flow.
func (l *Location) index(b *binding) {
	if b.Token != "" {
		l.tokens[b.Token] = b
	}
	if b.Flow != "" {
		l.flows[b.Flow] = append(l.flows[b.Flow], b)
	}
}

func (l *Location) dropBindings(d *device, which func(*binding) bool) {
	d.bindings = slices.DeleteFunc(d.bindings, func(b *binding) bool {
		if !which(b) {
			return false
		}
		if l.tokens[b.Token] == b {
			delete(l.tokens, b.Token)
		}
		l.detach(b)
		return true
	})
}

// detach takes b from its flow for good.
func (l *Location) detach(b *binding) {
	if b.Flow == "" {
		return
	}
	rest := without(l.flows[b.Flow], b)
	if len(rest) == 0 {
		delete(l.flows, b.Flow)
	} else {
		l.flows[b.Flow] = rest
	}
	b.Flow = ""
	l.setLive(b, false)
}

// setLive notes whether b's flow is up.
func (l *Location) setLive(b *binding, live bool) {
	if b.live != live {
		b.live = live
		if live {
			l.live++
		} else {
			l.live--
		}
	}
}

func (l *Location) dropTokens(d *device, which func(*Token) bool) {
	kept := d.tokens[:0]
	for i := range d.tokens {
		if which(&d.tokens[i]) {
			l.unpush(d, &d.tokens[i])
			continue
		}
		kept = append(kept, d.tokens[i])
	}
	clear(d.tokens[len(kept):])
	d.tokens = kept
}

func (l *Location) unpush(d *device, t *Token) {
	if k := d.id.tokenKey(t); l.pushes[k] == d {
		delete(l.pushes, k)
	}
}

func without[T comparable](s []T, x T) []T {
	if i := slices.Index(s, x); i >= 0 {
		return slices.Delete(s, i, i+1)
	}
	return s
}

// settle ends what is over at now and sets when to look again. It may drop d.
func (l *Location) settle(d *device, now time.Time) {
	var next time.Time // of the bindings that have not expired
	for _, b := range d.bindings {
		switch {
		case b.Expired(now):
			l.detach(b)
		case next.IsZero() || b.Expires.Before(next):
			next = b.Expires
		}
	}
	if next.IsZero() {
		usable := slices.ContainsFunc(d.tokens, func(t Token) bool { return !t.Dead })
		if !usable || !now.Before(d.keep) {
			l.drop(d)
			return
		}
		next = d.keep
	}
	d.due = next
	l.due.Put(d)
	if l.due[0] == d {
		signal(l.changed)
	}
}

func (b *binding) snapshot() Binding {
	s := b.Binding
	if !b.live || b.Answering {
		s.Flow = ""
	}
	s.Identities = slices.Clone(b.Identities)
	return s
}

func (d *device) snapshot() Device {
	s := Device{
		ID:       d.id,
		Tokens:   slices.Clone(d.tokens),
		Class:    d.class,
		Bindings: make([]Binding, 0, len(d.bindings)),
		Keep:     d.keep,
		LastWake: d.lastWake,
	}
	for _, b := range d.bindings {
		s.Bindings = append(s.Bindings, b.snapshot())
	}
	return s
}

// words keeps one copy of each text that many registrations share. It stops
// learning at maxWords, so that hostile User-Agents cannot fill it.
type words map[string]string

const maxWords = 4096

func (w words) intern(s string) string {
	if s == "" {
		return ""
	}
	if known, ok := w[s]; ok {
		return known
	}
	s = strings.Clone(s)
	if len(w) < maxWords && len(s) <= 256 {
		w[s] = s
	}
	return s
}

// compact returns b with texts of its own, so that it does not keep the whole
// message it was cut from.
func (w words) compact(b Binding, id DeviceID) Binding {
	b.AOR, b.Instance = id.AOR, id.Instance
	b.Contact = strings.Clone(b.Contact)
	if i := strings.Index(b.Contact, b.URI); i >= 0 {
		b.URI = b.Contact[i : i+len(b.URI)]
	} else {
		b.URI = strings.Clone(b.URI)
	}
	b.CallID = strings.Clone(b.CallID)
	b.Token = strings.Clone(b.Token)
	b.GRUUs = strings.Clone(b.GRUUs)
	b.Flow = strings.Clone(b.Flow)
	b.Edge, b.Core = w.intern(b.Edge), w.intern(b.Core)
	b.Transport, b.Public = w.intern(b.Transport), w.intern(b.Public)
	b.UserAgent = w.intern(b.UserAgent)
	b.Identities = slices.Clone(b.Identities)
	for i, s := range b.Identities {
		b.Identities[i] = strings.Clone(s)
	}
	return b
}

func (w words) compactToken(t Token) Token {
	t.Provider, t.Kind = w.intern(t.Provider), w.intern(t.Kind)
	t.App, t.Param = w.intern(t.App), w.intern(t.Param)
	t.Node = strings.Clone(t.Node)
	t.Value, t.Key, t.Auth = strings.Clone(t.Value), strings.Clone(t.Key), strings.Clone(t.Auth)
	t.LastError = w.intern(t.LastError)
	return t
}
