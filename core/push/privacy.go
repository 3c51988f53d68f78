package push

import (
	"encoding/base64"

	"sallyport/core/push/aes128gcm"
)

// Privacy is how much of a push whoever carries it gets to see. Ids, the event
// and times are always in the clear.
type Privacy string

// The levels of privacy. The zero value is what an operator gets who chooses
// none: e2e for a device that gave a key; else notes show nobody, and calls
// their caller, since the phone must ring with a name at once.
const (
	PrivacyDefault Privacy = ""
	PrivacyWake    Privacy = "wake"   // notes show nobody; calls their caller
	PrivacySender  Privacy = "sender" // who it is from, but no text
	PrivacyFull    Privacy = "full"   // the text too
	// PrivacyE2E: all of it, encrypted for the device (RFC 8291). A device without
	// a key gets ids alone, for calls too.
	PrivacyE2E Privacy = "e2e"
)

// view is what a push shows, and to whom.
type view struct {
	sender bool // who it is from
	text   bool // what it says
	// sealed puts all but the routing into an envelope for the device alone.
	sealed *aes128gcm.Device
}

// views are the levels for a device without a key.
var views = map[Privacy]map[need]view{
	PrivacyDefault: {needCall: {sender: true}, needNote: {}},
	PrivacyWake:    {needCall: {sender: true}, needNote: {}},
	PrivacySender:  {needCall: {sender: true}, needNote: {sender: true}},
	PrivacyFull:    {needCall: {sender: true}, needNote: {sender: true, text: true}},
	PrivacyE2E:     {needCall: {}, needNote: {}},
}

// viewOf decides what a push by the app to a token shows. A key that is none
// counts as absent: nothing is ever shown for want of one. WebPush is sealed by
// its sender, whatever the level, so that here it shows what the device may.
func (a *App) viewOf(t Token, n need) view {
	v := views[a.Privacy][n]
	if a.Privacy != PrivacyDefault && a.Privacy != PrivacyE2E || t.Key == "" || t.Auth == "" {
		return v
	}
	device, err := aes128gcm.ParseDevice(t.Key, t.Auth)
	switch {
	case err != nil:
		return v
	case t.Provider == ProviderWebPush:
		return view{sender: true, text: true}
	default:
		return view{sender: true, text: true, sealed: &device}
	}
}

// form is what a provider takes.
type form struct {
	limit int  // bytes of JSON
	apple bool // wants aps
	data  bool // wants strings by key, and counts them
}

// formOf is the form of a push by a channel.
func formOf(provider string, c Channel) form {
	switch {
	case provider == ProviderAPNs && c == VoIP:
		return form{limit: MaxVoIP, apple: true}
	case provider == ProviderAPNs:
		return form{limit: MaxMessage, apple: true}
	case provider == ProviderFCM:
		return form{limit: MaxMessage, data: true}
	default:
		return form{limit: MaxWebPush}
	}
}

// maxRouting bounds a Call-ID beside an envelope, which needs the room more.
const maxRouting = 512

// write puts the payload into a notification, in the form that f wants, with
// what v shows. What does not fit loses its tail.
func (f form) write(n *Notification, p payload, v view) {
	inner := p
	p = p.limited(v)
	if v.sealed != nil {
		if len(p.CallID) > maxRouting {
			p.CallID = ""
		}
		p.E2E = f.seal(p, inner, v.sealed)
	}
	p, n.Payload = p.fit(f)
	n.Data = nil
	if f.data {
		n.Data = p.data()
	}
}

// sealedOverhead is what an envelope adds at least.
var sealedOverhead = aes128gcm.Record - aes128gcm.MaxPlain

// seal returns the envelope of inner that fits beside p, in base64url without
// padding; "" where there is no room, which leaves a push that wakes.
func (f form) seal(p, inner payload, d *aes128gcm.Device) string {
	p.E2E = "-"
	room := base64.RawURLEncoding.DecodedLen(max(f.limit-len(p.encode(f))+len(p.E2E), 0))
	most := min(room-sealedOverhead, aes128gcm.MaxPlain)
	for most > 0 && aes128gcm.SealedLen(most) > room {
		most--
	}
	_, text := inner.fit(form{limit: most})
	if len(text) > most {
		return ""
	}
	sealed, err := d.Seal(text)
	if err != nil {
		return "" // never: it fits, and the key is good
	}
	return base64.RawURLEncoding.EncodeToString(sealed)
}

// limited is p with no more than v lets the carrier see.
func (p payload) limited(v view) payload {
	if v.sealed != nil {
		p.To, p.Video, p.Count = nil, nil, 0
	}
	if v.sealed != nil || !v.sender {
		p.FromURI, p.FromName, p.Number = nil, nil, nil
	}
	if v.sealed != nil || !v.text {
		p.Text = ""
	}
	return p
}
