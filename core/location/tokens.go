package location

import (
	"slices"
	"time"
)

// Token is one push token of a device (RFC 8599 pn-provider, pn-param,
// pn-prid), with what became of the pushes to it. No two devices hold the same
// (App, Kind, Value), those that enrolled counted by AOR. The tokens of a device
// live and die apart.
type Token struct {
	Provider string `json:"provider"`       // "apns", "fcm" or "webpush"
	Kind     string `json:"kind,omitempty"` // "voip" or "alert"
	App      string `json:"app,omitempty"`
	Param    string `json:"param,omitempty"`
	Value    string `json:"value,omitempty"` // secret
	Sandbox  bool   `json:"sandbox,omitempty"`
	// Node tells the tokens of one that enrolled apart: a hash of the client's
	// name for it (XEP-0357 node), "" with SIP.
	Node string `json:"node,omitempty"`
	// Key and Auth encrypt for the device (RFC 8291), in base64url; Auth is
	// secret. "" where the client gave none. They are replaced with each
	// registration.
	Key  string `json:"key,omitempty"`
	Auth string `json:"auth,omitempty"`
	// Registered is when the client last brought the token.
	Registered time.Time `json:"registered"`
	// Verdict goes with the value: another one begins with none.
	Verdict
}

// Verdict is what pushes to a token told of it.
type Verdict struct {
	// Dead: the provider said that it no longer delivers to this token (B19).
	// The mark stays until the client brings another value, or registers once
	// without this one.
	Dead bool `json:"dead,omitempty"`
	// Suspects counts the answers in a row that spoke against the token where a
	// wrong configuration looks the same. Above 0 the token is quarantined: kept,
	// and pushed to seldom (core/push), until a push is accepted.
	Suspects int `json:"suspects,omitempty"`
	// LastError is the provider's last reason not to deliver, at LastErrorAt; ""
	// if none.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// LastOK is when the provider last accepted a push. It is stored with the
	// next change of anything else.
	LastOK time.Time `json:"last_ok,omitzero"`
	// Calls and Notes tell whether the device came back for the pushes accepted
	// while it slept, by channel.
	Calls Score `json:"calls,omitzero"`
	Notes Score `json:"notes,omitzero"`
}

// Score counts how often accepted pushes woke a device that slept.
type Score struct {
	Woke   uint32 `json:"woke,omitempty"`
	Missed uint32 `json:"missed,omitempty"`
	// Row are the misses since the last wake, the first of them at Since.
	Row   uint32    `json:"row,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Last  time.Time `json:"last,omitzero"` // wake
}

// deafAfter is how many VoIP pushes in a row must bring no registration. Apple
// tells nobody that it withholds them; once and twice have other causes.
const deafAfter = 3

// Deaf reports whether the device's VoIP pushes wake it no more although
// others do: iOS withholds them from an app that did not report each as a call.
// A device that is off misses both, and is not deaf.
func (d Device) Deaf() bool {
	return slices.ContainsFunc(d.Tokens, d.DeafTo)
}

// DeafTo is Deaf for one of the device's tokens.
func (d Device) DeafTo(t Token) bool {
	return t.Calls.Row >= deafAfter && slices.ContainsFunc(d.Tokens, func(o Token) bool {
		return o.Notes.Last.After(t.Calls.Since)
	})
}

// TokenID names a token of a device.
type TokenID struct{ Provider, Kind, Value string }

// Answer is what a provider said of one push.
type Answer struct {
	Token  TokenID
	At     time.Time
	Reason string // the provider's word; "" when accepted
	// Of these at most one is set; with none the answer tells nothing of the token.
	Accepted bool
	Dead     bool
	Suspect  bool // see [Verdict.Suspects]
	// Since is when the provider last saw a dead token; zero if it did not say.
	Since time.Time
}

// Told notes what a provider said of a push to a device. A token called
// dead counts as that only if the client has not brought it again since then;
// a zero Since always counts. Providers' times have whole seconds, hence one
// second of slack. The tokens beside it are not touched.
func (l *Location) Told(id DeviceID, a Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.devices[id]
	t := d.find(a.Token)
	if t == nil {
		return
	}
	if a.Accepted {
		t.LastOK = a.At
		if t.Suspects > 0 {
			t.Suspects = 0
			l.markDirty(id)
		}
		return
	}
	t.LastError, t.LastErrorAt = l.words.intern(a.Reason), a.At
	switch {
	case a.Dead && (a.Since.IsZero() || !t.Registered.After(a.Since.Add(time.Second))):
		t.Dead = true
	case a.Suspect:
		t.Suspects++
	}
	l.markDirty(id)
	l.settle(d, time.Now())
}

// Wake is what came of one accepted push to a device that slept.
type Wake struct {
	Token TokenID
	Call  bool // it went by the VoIP channel
	At    time.Time
	Woke  bool // the device registered in time
}

// Scored notes whether a push woke its device.
func (l *Location) Scored(id DeviceID, w Wake) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.devices[id].find(w.Token)
	if t == nil {
		return
	}
	s := &t.Notes
	if w.Call {
		s = &t.Calls
	}
	if w.Woke {
		s.Woke++
		s.Row, s.Since, s.Last = 0, time.Time{}, w.At
	} else {
		s.Missed++
		if s.Row++; s.Row == 1 {
			s.Since = w.At
		}
	}
	l.markDirty(id)
}

// find returns d's token of that name; d may be nil.
func (d *device) find(n TokenID) *Token {
	if d == nil {
		return nil
	}
	for i := range d.tokens {
		if t := &d.tokens[i]; t.Provider == n.Provider && t.Kind == n.Kind && t.Value == n.Value {
			return t
		}
	}
	return nil
}

// setTokens gives d the tokens of a registration at the time at and returns
// the devices that lost one by it. The verdict goes with a value, also to the
// device it moves to: the provider knows no devices of ours.
func (l *Location) setTokens(d *device, tokens []Token, at, now time.Time) (losers []DeviceID) {
	old := d.tokens
	for i := range old {
		l.unpush(d, &old[i])
	}
	d.tokens = make([]Token, 0, len(tokens))
	for _, t := range tokens {
		if t.Registered.IsZero() {
			t.Registered = at
		}
		t = l.words.compactToken(t)
		if slices.ContainsFunc(d.tokens, func(o Token) bool { return o.channel() == t.channel() }) {
			continue // the first that the client names counts
		}
		key := d.id.tokenKey(&t)
		if i := slices.IndexFunc(old, func(o Token) bool { return d.id.tokenKey(&o) == key }); i >= 0 {
			t.Verdict = old[i].Verdict
		}
		if other := l.pushes[key]; other != nil && other != d {
			t.Verdict = other.token(key).Verdict
			l.lose(other, key)
			losers = append(losers, other.id)
			l.settle(other, now)
		}
		d.tokens = append(d.tokens, t)
		l.pushes[key] = d
	}
	return losers
}

// channel is what a device has one token for.
func (t *Token) channel() [3]string { return [3]string{t.Provider, t.App, t.Kind} }

// lose takes a token from d that is another device's now. What d's client did
// not declare stays what its tokens told: with the VoIP token alone it would look
// like a device that gets everything by it.
func (l *Location) lose(d *device, k pushKey) {
	if d.class == "" && d.hasApple(true) && d.hasApple(false) {
		d.class = "split"
	}
	l.dropTokens(d, func(o *Token) bool { return d.id.tokenKey(o) == k })
}

func (d *device) hasApple(voip bool) bool {
	return slices.ContainsFunc(d.tokens, func(t Token) bool { return t.Provider == "apns" && (t.Kind == "voip") == voip })
}
