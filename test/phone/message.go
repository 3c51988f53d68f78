package phone

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// Header is one header line.
type Header struct{ Name, Value string }

// Message is a SIP request (Method set) or response (Status set) as text:
// headers keep their order and their values byte for byte.
type Message struct {
	Method, URI string
	Status      int
	Reason      string
	Headers     []Header
	Body        []byte
	// Raw is the message as it arrived; nil for one made here.
	Raw []byte
}

// compact maps compact header names (RFC 3261 §7.3.3) to long ones.
var compact = map[string]string{
	"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length",
	"c": "content-type", "k": "supported", "s": "subject", "e": "content-encoding", "o": "event",
	"r": "refer-to", "b": "referred-by", "u": "allow-events", "x": "session-expires",
}

func sameHeader(a, b string) bool {
	fold := func(s string) string {
		s = strings.ToLower(s)
		if long, ok := compact[s]; ok {
			return long
		}
		return s
	}
	return fold(a) == fold(b)
}

// parse reads one whole message. What sipgo's parser refuses is refused.
func parse(raw []byte) (*Message, error) {
	if _, err := sip.ParseMessage(raw); err != nil {
		return nil, err
	}
	head, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	lines := strings.Split(strings.ReplaceAll(string(head), "\r\n ", " "), "\r\n")
	m := &Message{Raw: bytes.Clone(raw), Body: bytes.Clone(body)}
	first := strings.SplitN(lines[0], " ", 3)
	if len(first) < 2 {
		return nil, fmt.Errorf("first line %q", lines[0])
	}
	if first[0] == "SIP/2.0" {
		m.Status, _ = strconv.Atoi(first[1])
		m.Reason = strings.Join(first[2:], "")
	} else {
		m.Method, m.URI = first[0], first[1]
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		m.Headers = append(m.Headers, Header{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return m, nil
}

// Bytes is the message for the wire, with the Content-Length of its body.
func (m *Message) Bytes() []byte {
	var b bytes.Buffer
	if m.Method != "" {
		fmt.Fprintf(&b, "%s %s SIP/2.0\r\n", m.Method, m.URI)
	} else {
		fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", m.Status, m.Reason)
	}
	for _, h := range m.Headers {
		if !sameHeader(h.Name, "Content-Length") {
			fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
		}
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(m.Body), m.Body)
	return b.Bytes()
}

// String is the first line, for logs and errors: no header, no body.
func (m *Message) String() string {
	if m.Method != "" {
		return m.Method + " " + m.URI
	}
	return fmt.Sprintf("%d %s", m.Status, m.Reason)
}

// Get returns the first value of a header, "" when there is none. Compact and
// long names are one.
func (m *Message) Get(name string) string {
	if all := m.Values(name); len(all) > 0 {
		return all[0]
	}
	return ""
}

// Values returns every value of a header that may be a list (Via, Contact,
// Route…), split at commas outside quotes and angle brackets.
func (m *Message) Values(name string) []string {
	var all []string
	for _, h := range m.Headers {
		if sameHeader(h.Name, name) {
			all = append(all, splitList(h.Value)...)
		}
	}
	return all
}

// Lines returns the values of a header as they stand, one a line, for headers
// such as WWW-Authenticate that hold commas without being lists.
func (m *Message) Lines(name string) []string {
	var all []string
	for _, h := range m.Headers {
		if sameHeader(h.Name, name) {
			all = append(all, h.Value)
		}
	}
	return all
}

// Add appends a header line.
func (m *Message) Add(name, value string) { m.Headers = append(m.Headers, Header{name, value}) }

// Set replaces the first line of that name and removes the others.
func (m *Message) Set(name, value string) {
	kept := m.Headers[:0:0]
	done := false
	for _, h := range m.Headers {
		if !sameHeader(h.Name, name) {
			kept = append(kept, h)
		} else if !done {
			kept = append(kept, Header{h.Name, value})
			done = true
		}
	}
	if !done {
		kept = append(kept, Header{name, value})
	}
	m.Headers = kept
}

// CSeq returns number and method of the CSeq header, zero when it is broken.
func (m *Message) CSeq() (int, string) {
	number, method, _ := strings.Cut(m.Get("CSeq"), " ")
	n, _ := strconv.Atoi(number)
	return n, strings.TrimSpace(method)
}

// splitList cuts at commas outside quotes and angle brackets.
func splitList(s string) []string {
	var out []string
	quoted, angle, start := false, false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '<' && !quoted:
			angle = true
		case c == '>' && !quoted:
			angle = false
		case c == ',' && !quoted && !angle:
			out = append(out, strings.TrimSpace(s[start:i]))
			start = i + 1
		}
	}
	return append(out, strings.TrimSpace(s[start:]))
}

// address cuts a name-addr or addr-spec into its URI and what follows it.
func address(value string) (uri, params string) {
	quoted := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '<' && !quoted:
			uri, params, _ = strings.Cut(value[i+1:], ">")
			return uri, params
		}
	}
	uri, params, found := strings.Cut(value, ";")
	if found {
		params = ";" + params
	}
	return uri, params
}

// param returns a ;name=value parameter, quotes taken off.
func param(params, name string) (string, bool) {
	for part := range strings.SplitSeq(params, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if strings.EqualFold(key, name) {
			return strings.Trim(value, `"`), true
		}
	}
	return "", false
}

// tagOf returns the tag of a From or To value.
func tagOf(value string) string {
	_, params := address(value)
	tag, _ := param(params, "tag")
	return tag
}

// branchOf returns the branch of the topmost Via.
func branchOf(m *Message) string {
	branch, _ := param(m.Get("Via"), "branch")
	return branch
}
