package sipmsg

import (
	"strings"

	"github.com/emiago/sipgo/sip"
)

// Names of the first line in faults.
const (
	requestLine = "Request-Line"
	statusLine  = "Status-Line"
)

// schemes are those of a Request-URI that can be routed; others get 416
// (RFC 3261 §8.2.2.1). urn is for emergency calls (RFC 5031).
var schemes = map[string]bool{"sip": true, "sips": true, "tel": true, "urn": true}

// startLine makes the message. It leaves msg nil where there is no SIP.
func (b *builder) startLine(line string) {
	if hasJunk(line) {
		b.refuse(fatal("", "bare CR, LF or NUL in the first line"))
		return
	}
	if len(line) >= 4 && strings.EqualFold(line[:4], "SIP/") {
		b.statusLine(line)
		return
	}
	first, last := strings.IndexByte(line, ' '), strings.LastIndexByte(line, ' ')
	if first < 0 || first == last || !isToken(line[:first]) {
		b.refuse(fatal(requestLine, "not a SIP message"))
		return
	}
	method, uri, version := line[:first], line[first+1:last], line[last+1:]
	b.version(version)
	// An unusable Request-URI leaves a placeholder: the answer does not
	// carry it, and nothing is routed by a message that has a fault.
	recipient := sip.Uri{Scheme: "sip", Host: "invalid"}
	if u, f := requestURI(uri); f != nil {
		b.refuse(f)
	} else {
		recipient = u
	}
	b.request = sip.NewRequest(sip.RequestMethod(method), recipient)
	b.msg = b.request
}

func (b *builder) version(v string) {
	switch {
	case strings.EqualFold(v, "SIP/2.0"):
	case len(v) > 4 && strings.EqualFold(v[:4], "SIP/"):
		b.refuse(fault(505, requestLine, "SIP version is not 2.0"))
	case trim(v) == "":
		b.refuse(bad(requestLine, "white space after the version"))
	default:
		b.refuse(fatal(requestLine, "no SIP version"))
	}
}

// requestURI checks the Request-URI and reads it into sipgo's form.
func requestURI(s string) (sip.Uri, *Fault) {
	u, err := ParseURI(s)
	if err != nil {
		return sip.Uri{}, bad(requestLine, err.Error())
	}
	if !schemes[u.Scheme] {
		return sip.Uri{}, fault(416, requestLine, "unsupported URI scheme")
	}
	if u.Headers != "" {
		return sip.Uri{}, bad(requestLine, "headers in the Request-URI")
	}
	return sipURI(s)
}

func sipURI(s string) (sip.Uri, *Fault) {
	var u sip.Uri
	if err := sip.ParseUri(s, &u); err != nil {
		return sip.Uri{}, bad(requestLine, "malformed URI")
	}
	return u, nil
}

// statusLine reads "SIP/2.0 200 OK". The space after the status may be
// missing, as some senders of an empty reason leave it out.
func (b *builder) statusLine(line string) {
	version, rest, _ := strings.Cut(line, " ")
	code, reason, _ := strings.Cut(rest, " ")
	status, ok := parseUint(code, 699)
	res := sip.NewResponse(int(status), reason)
	b.msg = res
	if !strings.EqualFold(version, "SIP/2.0") {
		b.refuse(bad(statusLine, "SIP version is not 2.0"))
	}
	if !ok || len(code) != 3 || status < 100 {
		b.refuse(bad(statusLine, "malformed status"))
	}
}
