package push

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Bounds of what a row keeps of a note, in bytes. A payload holds no more.
const (
	maxText  = 4096
	maxField = 1024
)

// row is a note that waits. It is owned by the lane.
type row struct {
	// Static.
	key     string
	device  string
	note    Note
	added   time.Time // when it was queued
	expires time.Time // when it is worth nothing any more
	origin  string    // the service, in one life of it, that wants to hear the end; "" for none
	target  *Target   // where it goes, for a row that is in memory alone; nil asks Config.Targets

	// What earlier attempts left behind.
	tries  int
	failed time.Time // when the provider first refused it for now
	wait   time.Time // not to be sent before

	remove  func() // takes it out of the outbox; nil for one in memory
	counted bool   // it is in the count of its chat
	ended   bool   // it is done, expired, dead or dropped
}

// stored is the form of a row in the outbox. What the note says, and to whom,
// is sealed; so tokens are never in it, the device is asked for them when the
// push is sent.
type stored struct {
	V       int    `json:"v"`
	Key     string `json:"key"`
	Device  string `json:"device"`
	Added   int64  `json:"added"`   // µs since 1970
	Expires int64  `json:"expires"` // ms since 1970, like those below
	Origin  string `json:"origin,omitempty"`
	Tries   int    `json:"tries,omitempty"`
	Failed  int64  `json:"failed,omitempty"`
	Wait    int64  `json:"wait,omitempty"`
	Note    []byte `json:"note"`
}

// storedVersion is the v of each row; one of a later version is left alone.
const storedVersion = 1

// newRow makes a row of a note, cut to its bounds.
func newRow(device string, n Note, now time.Time, keep time.Duration) *row {
	if n.Sent.IsZero() {
		n.Sent = now
	}
	for _, f := range []*string{&n.FromURI, &n.FromName, &n.Number, &n.To, &n.Conversation} {
		*f = cut(*f, maxField)
	}
	n.Text = cut(n.Text, maxText)
	if n.ID = noteID(n); len(n.ID) > maxField {
		n.ID = rowKey("", n.ID) // a stranger chose it
	}
	if len(n.CallID) > maxText {
		n.CallID = "" // half a Call-ID pairs with nothing
	}
	r := &row{key: rowKey(device, n.ID), device: device, note: n, added: now, expires: n.Expires}
	if last := n.Sent.Add(keep); r.expires.IsZero() || r.expires.After(last) {
		r.expires = last
	}
	r.note.Expires = r.expires
	return r
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "")
}

// noteID completes the name of an event that its source did not name.
func noteID(n Note) string {
	switch {
	case n.ID != "":
		return n.ID
	case n.CallID != "":
		return n.Event + "\x00" + n.CallID
	}
	return n.Event + "\x00" + n.Sent.UTC().Format(time.RFC3339Nano)
}

// rowKey names the push of one event to one device on the Message channel, in
// 22 letters, digits, '-' and '_'.
func rowKey(device, id string) string {
	sum := sha256.Sum256([]byte(string(Message) + "\x00" + device + "\x00" + id))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// rev names one state of a row: what an attempt leaves behind is another row
// with the same key.
func (r *row) rev() string {
	if r.tries == 0 {
		return r.key
	}
	return fmt.Sprintf("%s.%d", r.key, r.tries)
}

func (r *row) encode(s Sealer) ([]byte, error) {
	plain, err := json.Marshal(r.note)
	if err != nil {
		return nil, err
	}
	return json.Marshal(stored{
		V: storedVersion, Key: r.key, Device: r.device, Added: r.added.UnixMicro(), Expires: r.expires.UnixMilli(),
		Origin: r.origin, Tries: r.tries, Failed: milli(r.failed), Wait: milli(r.wait), Note: s.Seal(rowName(r.key), plain),
	})
}

func decodeRow(s Sealer, data []byte, remove func()) (*row, error) {
	var st stored
	if err := json.Unmarshal(data, &st); err != nil {
		return nil, err
	}
	if st.V != storedVersion {
		return nil, fmt.Errorf("%w %d", errVersion, st.V)
	}
	plain, _, err := s.Open(rowName(st.Key), st.Note)
	if err != nil {
		return nil, err
	}
	r := &row{
		key: st.Key, device: st.Device, added: time.UnixMicro(st.Added), expires: time.UnixMilli(st.Expires),
		origin: st.Origin, tries: st.Tries, failed: unmilli(st.Failed), wait: unmilli(st.Wait), remove: remove,
	}
	if err := json.Unmarshal(plain, &r.note); err != nil {
		return nil, err
	}
	return r, nil
}

var errVersion = errors.New("row of version")

func rowName(key string) string { return "push/" + key }

func milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func unmilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// chatName is what the row is merged by within its device; single is true for
// one that is merged with nothing.
func (r *row) chatName() (name string, single bool) {
	if r.note.Event != EventMessage || r.note.Conversation == "" || r.device == "" {
		return "\x00" + r.key, true
	}
	return r.note.Conversation, false
}

// messages is how many messages the row stands for.
func (r *row) messages() int { return max(r.note.Count, 1) }

// newLife names this life of the service among all that share an outbox.
func newLife() string { return rand.Text() }
