package push

import (
	"encoding/json"
	"sort"
	"strings"
	"time"
)

// version is the `v` of each payload. It changes when a key changes meaning.
const version = 1

// Bounds of a payload in bytes of JSON.
const (
	MaxVoIP    = 5120 // Apple's bound for pushes of type voip
	MaxMessage = 4096 // Apple's for all others; FCM and WebPush have the same
)

// Privacy is how much of a note the provider gets to see. A call always shows
// its caller: the phone must ring with a name, at once.
type Privacy string

// The levels of privacy.
const (
	PrivacyWake   Privacy = "wake"   // ids alone; the default
	PrivacySender Privacy = "sender" // who it is from, but no text
)

// payload is what an app gets. Its keys are the same for each provider; the
// order here is the order on the wire.
type payload struct {
	APS       aps     `json:"aps"`
	V         int     `json:"v"`
	Channel   Channel `json:"channel"`
	Event     string  `json:"event"`
	CallID    string  `json:"call_id,omitempty"`
	UUID      string  `json:"uuid,omitempty"`
	FromURI   *string `json:"from_uri,omitempty"`
	FromName  *string `json:"from_name,omitempty"`
	Number    *string `json:"number,omitempty"`
	To        string  `json:"to"`
	Video     *bool   `json:"video,omitempty"`
	SentAt    int64   `json:"sent_at"`              // ms since 1970
	RingUntil int64   `json:"ring_until,omitempty"` // ms since 1970
	Count     int     `json:"count,omitempty"`      // messages of the conversation, where there are several
}

// aps is the part that Apple reads. It is empty for a VoIP push.
type aps struct {
	ContentAvailable int    `json:"content-available,omitempty"`
	Alert            *alert `json:"alert,omitempty"`
	Sound            string `json:"sound,omitempty"`
	MutableContent   int    `json:"mutable-content,omitempty"`
}

type alert struct {
	Title string `json:"title"`
}

// neutral is what the phone shows when the app's extension does not replace
// it: the event, and nobody's name or words.
var neutral = map[string]aps{
	EventMissed:            {Alert: &alert{Title: "Missed call"}, Sound: "default", MutableContent: 1},
	EventAnsweredElsewhere: {Alert: &alert{Title: "Call answered on another device"}, MutableContent: 1},
	EventMessage:           {Alert: &alert{Title: "New message"}, Sound: "default", MutableContent: 1},
	EventRegister:          {ContentAvailable: 1},
}

// assumedRing is how long a call rings when the caller of this package does
// not know: the default wake window.
const assumedRing = 13 * time.Second

// callPayload is the payload of a ringing call.
func callPayload(c Call, now time.Time) payload {
	if c.Sent.IsZero() {
		c.Sent = now
	}
	if c.RingUntil.IsZero() {
		c.RingUntil = c.Sent.Add(assumedRing)
	}
	return payload{
		V: version, Channel: VoIP, Event: "call",
		CallID: c.CallID, UUID: CallUUID(c.CallID),
		FromURI: &c.FromURI, FromName: &c.FromName, Number: &c.Number,
		To: c.To, Video: &c.Video,
		SentAt: c.Sent.UnixMilli(), RingUntil: c.RingUntil.UnixMilli(),
	}
}

// notePayload is the payload of a note.
func notePayload(n Note, level Privacy, now time.Time) payload {
	if n.Sent.IsZero() {
		n.Sent = now
	}
	shown, ok := neutral[n.Event]
	if !ok {
		shown = neutral[EventMessage]
	}
	p := payload{
		APS: shown, V: version, Channel: Message, Event: n.Event,
		CallID: n.CallID, To: n.To, SentAt: n.Sent.UnixMilli(),
	}
	if n.Count > 1 {
		p.Count = n.Count
	}
	if n.CallID != "" {
		p.UUID = CallUUID(n.CallID)
	}
	if level == PrivacySender {
		p.FromURI, p.FromName, p.Number = &n.FromURI, &n.FromName, &n.Number
	}
	return p
}

// bare is p without anything a stranger chose but the ids: what is sent when
// the provider still finds the payload too large.
func (p payload) bare() payload {
	p.FromURI, p.FromName, p.Number = nil, nil, nil
	if len(p.CallID) > 256 {
		p.CallID = ""
	}
	p.To = strings.ToValidUTF8(clip(p.To), "")
	return p
}

// encode writes p in at most limit bytes. What is too long loses its tail, the
// caller's name first, then the less needed the later: a call with a long name
// rings rather than being refused. A Call-ID is whole or absent, for half a
// Call-ID pairs with nothing; the uuid is made of the whole one in any case.
func (p payload) encode(limit int) []byte {
	b := p.json()
	for _, field := range []**string{&p.FromName, &p.FromURI, &p.Number} {
		if len(b) <= limit || *field == nil {
			continue
		}
		*field = longest(**field, func(s string) bool {
			*field = &s
			return len(p.json()) <= limit
		})
		b = p.json()
	}
	if len(b) > limit {
		p.CallID = ""
		b = p.json()
	}
	if len(b) > limit {
		p.To = *longest(p.To, func(s string) bool {
			p.To = s
			return len(p.json()) <= limit
		})
		b = p.json()
	}
	return b
}

// json encodes p. HTML characters are escaped, as they are again by whoever
// marshals the bytes as a [json.RawMessage], so that the length is final.
func (p payload) json() []byte {
	b, err := json.Marshal(p)
	if err != nil { // a struct of strings, numbers and booleans always encodes
		return []byte(`{"aps":{}}`)
	}
	return b
}

// longest returns the longest head of s, cut between runes, that fits; the
// empty one when none does.
func longest(s string, fits func(string) bool) *string {
	s = s[:min(len(s), MaxVoIP)] // more never fits
	cuts := []int{0}
	for i := range s {
		if i > 0 {
			cuts = append(cuts, i)
		}
	}
	cuts = append(cuts, len(s))
	n := sort.Search(len(cuts), func(i int) bool { return !fits(s[:cuts[i]]) })
	head := s[:cuts[max(n-1, 0)]]
	return &head
}
