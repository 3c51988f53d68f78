package xmppproxy

import (
	"bytes"
	"encoding/base64"
	"strings"

	"sallyport/core/stanza"
)

// maxName is how long a name is read.
const maxName = 1023

// nameReader reads who logs in from what a client says, where that can be told
// for sure: in PLAIN and SCRAM, in ASCII, and for nobody else.
type nameReader struct {
	mechanism string
	seen      bool   // the first text with content was looked at
	name      string // lower-case; "" when it cannot be told
}

// read looks at an <auth/> or a <response/>.
func (r *nameReader) read(e *stanza.Element) {
	text := strings.TrimSpace(e.Text(maxLoginElement))
	if r.seen || text == "" || text == "=" {
		return
	}
	r.seen = true
	if len(e.Children) > 0 { // servers differ in what text they see then
		return
	}
	p, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return
	}
	var name string
	var ok bool
	switch m := strings.ToUpper(r.mechanism); {
	case m == "PLAIN":
		name, ok = plainName(p)
	case strings.HasPrefix(m, "SCRAM-"):
		name, ok = scramName(p)
	}
	if ok && sure(name) {
		r.name = strings.ToLower(name)
	}
}

// plainName is the authcid of RFC 4616 where there is no authzid.
func plainName(p []byte) (string, bool) {
	parts := bytes.Split(p, []byte{0})
	if len(parts) != 3 || len(parts[0]) != 0 {
		return "", false
	}
	return string(parts[1]), true
}

// scramName is the name in a client-first-message of RFC 5802 §7 where there is
// no authzid. Right behind it the nonce has to come: Prosody takes the second of
// two names.
func scramName(p []byte) (string, bool) {
	parts := strings.Split(string(p), ",")
	if len(parts) < 4 || parts[1] != "" || !strings.HasPrefix(parts[2], "n=") || !strings.HasPrefix(parts[3], "r=") {
		return "", false
	}
	return strings.NewReplacer("=2C", ",", "=3D", "=").Replace(parts[2][2:]), true
}

// sure reports whether a name can be the local part of one JID alone: all
// servers prepare others in ways of their own.
func sure(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		if b := name[i]; b <= ' ' || b >= 0x7F || strings.IndexByte("\"&'/:<>@\\=,", b) >= 0 {
			return false
		}
	}
	return true
}
