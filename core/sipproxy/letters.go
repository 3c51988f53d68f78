package sipproxy

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/emiago/sipgo/sip"
)

// letterKind says what a MESSAGE is worth to a device that sleeps.
type letterKind int

// The kinds.
const (
	worthPush letterKind = iota // held, and the device is told
	silent                      // held: a receipt (RFC 5438), or not urgent
	fleeting                    // dropped: somebody types (RFC 3994)
)

// kinds are the types of content that are no text for a reader.
var kinds = map[string]letterKind{
	"application/im-iscomposing+xml": fleeting,
	"message/imdn+xml":               silent,
}

// kindOf looks at the type of the content, inside CPIM (RFC 3862) too, and at
// Priority.
func kindOf(req *sip.Request) letterKind {
	kind, _ := contentOf(req)
	if k, known := kinds[kind]; known {
		return k
	}
	if strings.EqualFold(headerValue(req, "Priority"), "non-urgent") {
		return silent
	}
	return worthPush
}

// textOf is what the message says, if it says it in plain text; "" if not.
func textOf(req *sip.Request) string {
	kind, body := contentOf(req)
	if kind != "text/plain" || !utf8.Valid(body) {
		return ""
	}
	return string(body)
}

// contentOf returns the content of a message and its type, of what is wrapped if
// it is CPIM.
func contentOf(req *sip.Request) (kind string, body []byte) {
	kind, body = mediaType(headerValue(req, "Content-Type")), req.Body()
	if kind != "message/cpim" {
		return kind, body
	}
	_, inner, ok := cutBlank(body)
	if !ok {
		return kind, nil
	}
	head, content, _ := cutBlank(inner)
	for line := range bytes.Lines(head) {
		if name, value, ok := strings.Cut(string(line), ":"); ok && strings.EqualFold(strings.TrimSpace(name), "Content-Type") {
			return mediaType(value), content
		}
	}
	return kind, nil
}

// mediaType is a Content-Type without its parameters, in lower case.
func mediaType(value string) string {
	kind, _, _ := strings.Cut(value, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// cutBlank cuts at the first empty line.
func cutBlank(b []byte) (before, after []byte, found bool) {
	if before, after, found = bytes.Cut(b, []byte("\r\n\r\n")); found {
		return before, after, true
	}
	return bytes.Cut(b, []byte("\n\n"))
}
