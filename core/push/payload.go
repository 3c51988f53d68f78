package push

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"sort"
	"strings"
	"time"
	"unicode/utf8"
)

// version is the `v` of each payload. It changes when a key changes meaning.
const version = 1

// Bounds of a payload in bytes of JSON.
const (
	MaxVoIP    = 5120 // Apple's bound for pushes of type voip
	MaxMessage = 4096 // Apple's for all others, and FCM's
	MaxWebPush = 3993 // what is left of 4096 once encrypted (RFC 8291 §4)
)

// payload is what an app gets. Its keys are the same for each provider; the
// order here is the order on the wire. docs/push.schema.json describes it.
type payload struct {
	APS          *aps    `json:"aps,omitempty"`
	V            int     `json:"v"`
	Channel      Channel `json:"channel"`
	Event        string  `json:"event"`
	ID           string  `json:"id,omitempty"`
	CallID       string  `json:"call_id,omitempty"`
	UUID         string  `json:"uuid,omitempty"`
	Conversation string  `json:"conversation,omitempty"`
	Count        int     `json:"count,omitempty"`
	FromURI      *string `json:"from_uri,omitempty"`
	FromName     *string `json:"from_name,omitempty"`
	Number       *string `json:"number,omitempty"`
	Text         string  `json:"text,omitempty"`
	To           *string `json:"to,omitempty"`
	Video        *bool   `json:"video,omitempty"`
	SentAt       int64   `json:"sent_at"`              // ms since 1970
	RingUntil    int64   `json:"ring_until,omitempty"` // ms since 1970
	E2E          string  `json:"e2e,omitempty"`        // the whole payload but aps, for the device alone

	badge   int  // for aps; 0 leaves it as it is
	passive bool // for aps: the screen stays dark
}

// aps is the part that Apple reads. It is empty for a VoIP push.
type aps struct {
	ContentAvailable  int    `json:"content-available,omitempty"`
	Alert             *alert `json:"alert,omitempty"`
	Badge             int    `json:"badge,omitempty"`
	Sound             string `json:"sound,omitempty"`
	ThreadID          string `json:"thread-id,omitempty"`
	InterruptionLevel string `json:"interruption-level,omitempty"`
	MutableContent    int    `json:"mutable-content,omitempty"`
}

// alert is what the phone shows when no extension of the app replaces it. Its
// key in the app's Localizable.strings is the English title itself, which is
// what a phone shows that does not find the key.
type alert struct {
	Title    string `json:"title"`
	TitleKey string `json:"title-loc-key"`
	Subtitle string `json:"subtitle,omitempty"`
	Body     string `json:"body,omitempty"`
}

// titles are neutral: the event, and nobody's name or words.
var titles = map[string]string{
	EventMissed:            "Missed call",
	EventAnsweredElsewhere: "Call answered on another device",
	EventMessage:           "New message",
}

// Bounds of what an alert shows, in characters: what a locked screen has room
// for.
const (
	maxSubtitle = 64
	maxBody     = 200
)

// apple is the part of p that Apple reads.
func (p *payload) apple() *aps {
	switch p.Event {
	case eventCall:
		return &aps{}
	case EventRegister:
		return &aps{ContentAvailable: 1}
	}
	title, ok := titles[p.Event]
	if !ok {
		title = titles[EventMessage]
	}
	a := &aps{
		Alert: &alert{Title: title, TitleKey: title, Body: head(p.Text, maxBody)},
		Badge: p.badge, ThreadID: p.Conversation, MutableContent: 1,
	}
	for _, who := range []*string{p.FromName, p.Number} {
		if who != nil && a.Alert.Subtitle == "" {
			a.Alert.Subtitle = head(*who, maxSubtitle)
		}
	}
	switch {
	case p.passive:
		a.InterruptionLevel = "passive"
	case p.Event != EventAnsweredElsewhere:
		a.Sound = "default"
	}
	return a
}

// eventCall is the event of a VoIP push.
const eventCall = "call"

// assumedRing is how long a call rings when the caller of this package does
// not know: the default wake window.
const assumedRing = 13 * time.Second

// callPayload is the whole payload of a ringing call.
func callPayload(c Call, now time.Time) payload {
	if c.Sent.IsZero() {
		c.Sent = now
	}
	if c.RingUntil.IsZero() {
		c.RingUntil = c.Sent.Add(assumedRing)
	}
	return payload{
		V: version, Channel: VoIP, Event: eventCall,
		CallID: c.CallID, UUID: CallUUID(c.CallID),
		FromURI: &c.FromURI, FromName: &c.FromName, Number: &c.Number,
		To: &c.To, Video: &c.Video,
		SentAt: c.Sent.UnixMilli(), RingUntil: c.RingUntil.UnixMilli(),
	}
}

// notePayload is the whole payload of a note whose push has an id.
func notePayload(n Note, id, conversation string, passive bool) payload {
	p := payload{
		V: version, Channel: Message, Event: n.Event, ID: id,
		CallID: n.CallID, Conversation: conversation, Count: n.Count,
		FromURI: &n.FromURI, FromName: &n.FromName, Number: &n.Number, Text: n.Text,
		To: &n.To, SentAt: n.Sent.UnixMilli(),
		badge: n.Badge, passive: passive,
	}
	if n.CallID != "" {
		p.UUID = CallUUID(n.CallID)
	}
	switch n.Event {
	case EventRegister: // it is of nobody, and about nothing
		p.ID, p.FromURI, p.FromName, p.Number, p.Text = "", nil, nil, nil, ""
	case EventMessage:
		p.Count = max(p.Count, 1)
	}
	return p
}

// bare is p without anything a stranger chose but the ids: what is sent when
// the provider still finds the payload too large.
func (p payload) bare() payload {
	p.FromURI, p.FromName, p.Number, p.Text = nil, nil, nil, ""
	if len(p.CallID) > 256 {
		p.CallID = ""
	}
	if p.To != nil {
		to := strings.ToValidUTF8(clip(*p.To), "")
		p.To = &to
	}
	return p
}

// fit is p in a form's limit, and its bytes. What is too long loses its tail, the text first,
// then the caller's name, the less needed the later: a call with a long name
// rings rather than being refused. A Call-ID is whole or absent, for half a
// Call-ID pairs with nothing; the uuid is made of the whole one in any case.
func (p payload) fit(f form) (payload, []byte) {
	if b := p.encode(f); len(b) <= f.limit {
		return p, b
	}
	p = p.clipped(f.limit)
	fits := func() bool { return len(p.encode(f)) <= f.limit }
	if p.Text != "" {
		p.Text = *longest(p.Text, f.limit, func(s string) bool {
			p.Text = s
			return fits()
		})
	}
	cut := func(field **string) {
		if *field == nil || fits() {
			return
		}
		*field = longest(**field, f.limit, func(s string) bool {
			*field = &s
			return fits()
		})
	}
	for _, field := range []**string{&p.FromName, &p.FromURI, &p.Number} {
		cut(field)
	}
	if !fits() {
		p.CallID = ""
	}
	cut(&p.To)
	return p, p.encode(f)
}

// clipped is p without what would never fit, so that no time is spent on it.
func (p payload) clipped(limit int) payload {
	all := func(string) bool { return true }
	p.Text = *longest(p.Text, limit, all)
	for _, field := range []**string{&p.FromName, &p.FromURI, &p.Number, &p.To} {
		if *field != nil {
			*field = longest(**field, limit, all)
		}
	}
	if len(p.CallID) > limit {
		p.CallID = ""
	}
	return p
}

// encode writes p in a form. HTML characters are escaped, as they are again by
// whoever marshals the bytes as a [json.RawMessage], so that the length is
// final.
func (p payload) encode(f form) []byte {
	if f.data {
		return mustJSON(p.data())
	}
	if f.apple {
		p.APS = p.apple()
	}
	return mustJSON(p)
}

// mustJSON encodes a struct of strings, numbers and booleans, or a map of
// strings, which always encode.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte(`{}`)
	}
	return b
}

// data is p as strings by key, for FCM. aps is not in it.
func (p payload) data() map[string]string {
	dec := json.NewDecoder(bytes.NewReader(mustJSON(p)))
	dec.UseNumber()
	var all map[string]any
	if err := dec.Decode(&all); err != nil {
		return nil // it was just encoded
	}
	out := make(map[string]string, len(all))
	for k, v := range all {
		switch v := v.(type) {
		case string:
			out[k] = v
		case json.Number:
			out[k] = v.String()
		case bool:
			out[k] = map[bool]string{false: "false", true: "true"}[v]
		}
	}
	return out
}

// longest returns the longest head of s, of at most limit bytes and cut between
// runes, that fits; the empty one when none does.
func longest(s string, limit int, fits func(string) bool) *string {
	s = s[:min(len(s), max(limit, 0))] // half a rune at the end is cut below
	cuts := []int{0}
	for i := range s {
		if i > 0 {
			cuts = append(cuts, i)
		}
	}
	if r, size := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || size != 1 {
		cuts = append(cuts, len(s))
	}
	n := sort.Search(len(cuts), func(i int) bool { return !fits(s[:cuts[i]]) })
	head := s[:cuts[max(n-1, 0)]]
	return &head
}

// head is the first characters of s, at most most.
func head(s string, most int) string {
	if len(s) <= most {
		return s
	}
	n := 0
	for i := range s {
		if n == most {
			return s[:i]
		}
		n++
	}
	return s
}

// thread names a conversation of an AOR by 43 characters that tell nobody else
// which it is: the secret keeps a provider from trying all numbers there are.
func thread(secret []byte, to, conversation string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(to + "\x00" + conversation))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
