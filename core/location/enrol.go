package location

import (
	"errors"
	"strings"
	"time"
)

// SchemeXMPP begins the AOR of an IM client. No SIP request is ever for it.
const SchemeXMPP = "xmpp:"

// enrols reports whether the device is one that has tokens without a binding.
func (id DeviceID) enrols() bool { return strings.HasPrefix(id.AOR, SchemeXMPP) }

// Enrol gives an IM client tokens, in place of those it had: it has no
// registration that they could come with. Without any left the device is
// forgotten. A token that another device of the same AOR holds moves here.
//
// It is kept for [Config.DeviceKeep] from now or the last [Location.Renew], and
// no longer than one of its tokens lives. Enrol does not wait for the store,
// which hears of it from Run within a second, or at once from [Location.Save] of
// the devices that it returns: those that changed. Errors are those of
// [Location.Bind].
func (l *Location) Enrol(id DeviceID, tokens []Token) (touched []DeviceID, err error) {
	if !id.enrols() {
		return nil, errors.New("enrol: not the AOR of an IM client")
	}
	now := time.Now()
	if err := check(Binding{AOR: id.AOR, Instance: id.Instance, Expires: now}, tokens); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	touched = []DeviceID{id}
	d, evicted, err := l.room(id)
	if err != nil {
		return nil, err
	}
	if evicted != nil {
		touched = append(touched, evicted.id)
		l.drop(evicted)
	}
	if d == nil {
		d = l.add(id)
	}
	touched = append(touched, l.setTokens(d, tokens, now, now)...)
	d.keep = now.Add(l.cfg.DeviceKeep)
	l.settle(d, now)
	l.markDirty(touched...)
	return touched, nil
}

// renewEvery is how often it is worth writing down that a device was here.
const renewEvery = time.Hour

// Renew says that an IM client was here, so that it is kept anew. A device that
// is not known, or that has a registration to be kept by, is left alone.
func (l *Location) Renew(id DeviceID) {
	if !id.enrols() {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.devices[id]
	if d == nil || now.Add(l.cfg.DeviceKeep).Sub(d.keep) < renewEvery {
		return
	}
	d.keep = now.Add(l.cfg.DeviceKeep)
	l.settle(d, now)
	l.markDirty(id)
}
