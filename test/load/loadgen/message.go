package loadgen

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// errFrame is a byte stream that is not SIP.
var errFrame = errors.New("loadgen: not a SIP message")

// maxVias and maxRoutes bound what one message may carry here.
const (
	maxVias   = 12
	maxRoutes = 12
	maxHead   = 64 << 10
)

// A message is one parsed SIP message. Its slices share memory with the bytes
// it was read from.
type message struct {
	method  string // of the request, or of the CSeq of a response
	request bool
	status  int
	vias    [][]byte // whole lines
	routes  [][]byte // values of Record-Route
	from    []byte
	to      []byte
	callID  []byte
	cseq    []byte
	contact []byte
	expires []byte

	viaRoom   [maxVias][]byte
	routeRoom [maxRoutes][]byte
}

// methods avoids a string for each request.
func methodOf(b []byte) string {
	switch string(b) {
	case "INVITE":
		return "INVITE"
	case "ACK":
		return "ACK"
	case "BYE":
		return "BYE"
	case "MESSAGE":
		return "MESSAGE"
	case "REGISTER":
		return "REGISTER"
	}
	return string(b)
}

// readStream reads one message of a byte stream into buf, which grows as
// needed. A keep-alive gives an empty message.
func readStream(r *bufio.Reader, buf []byte) ([]byte, error) {
	first, err := r.ReadByte()
	if err != nil {
		return buf[:0], err
	}
	if first == '\r' {
		_, err = r.ReadByte()
		return buf[:0], err
	}
	buf = append(buf[:0], first)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return buf, err
		}
		if buf = append(buf, line...); len(line) <= 2 {
			break
		}
		if len(buf) > maxHead {
			return buf, errFrame
		}
	}
	head := len(buf)
	n := contentLength(buf)
	if n > maxHead {
		return buf, errFrame
	}
	buf = append(buf, make([]byte, n)...)
	_, err = io.ReadFull(r, buf[head:])
	return buf, err
}

// contentLength is the length of the body that a header block announces.
func contentLength(head []byte) int {
	for line := range bytes.Lines(head) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || name[0]|32 != 'c' && name[0]|32 != 'l' {
			continue
		}
		if n := string(bytes.TrimSpace(name)); strings.EqualFold(n, "content-length") || strings.EqualFold(n, "l") {
			length, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			if err == nil && length >= 0 {
				return length
			}
		}
	}
	return 0
}

// parse reads one whole message into m.
func (m *message) parse(raw []byte) error {
	*m = message{}
	m.vias, m.routes = m.viaRoom[:0], m.routeRoom[:0]
	line, rest, ok := bytes.Cut(raw, []byte("\r\n"))
	if !ok {
		return errFrame
	}
	if after, response := bytes.CutPrefix(line, []byte("SIP/2.0 ")); response {
		if len(after) < 3 {
			return errFrame
		}
		status, err := strconv.Atoi(string(after[:3]))
		if err != nil {
			return errFrame
		}
		m.status = status
	} else {
		method, _, ok := bytes.Cut(line, []byte(" "))
		if !ok {
			return errFrame
		}
		m.request, m.method = true, methodOf(method)
	}
	for len(rest) > 0 {
		if line, rest, _ = bytes.Cut(rest, []byte("\r\n")); len(line) == 0 {
			break
		}
		if colon := bytes.IndexByte(line, ':'); colon > 0 {
			m.header(bytes.TrimSpace(line[:colon]), bytes.TrimSpace(line[colon+1:]), line)
		}
	}
	if len(m.vias) == 0 || m.cseq == nil {
		return errFrame
	}
	return nil
}

// header notes one header line.
func (m *message) header(name, value, line []byte) {
	is := func(long string) bool { return len(name) == len(long) && strings.EqualFold(string(name), long) }
	short := byte(0)
	if len(name) == 1 {
		short = name[0] | 32
	}
	switch {
	case short == 'v' || is("via"):
		if len(m.vias) < maxVias {
			m.vias = append(m.vias, line)
		}
	case short == 'f' || is("from"):
		m.from = value
	case short == 't' || is("to"):
		m.to = value
	case short == 'i' || is("call-id"):
		m.callID = value
	case short == 'm' || is("contact"):
		m.contact = value
	case is("cseq"):
		m.cseq = value
		if i := bytes.LastIndexByte(value, ' '); !m.request && i > 0 {
			m.method = methodOf(value[i+1:])
		}
	case is("record-route"):
		m.recordRoutes(value)
	case is("expires"):
		m.expires = value
	}
}

// recordRoutes takes the values of one Record-Route header apart.
func (m *message) recordRoutes(value []byte) {
	quoted, start := false, 0
	for i := 0; i <= len(value); i++ {
		if i < len(value) && value[i] != ',' || quoted {
			if i < len(value) {
				quoted = value[i] == '<' || quoted && value[i] != '>'
			}
			continue
		}
		if len(m.routes) < maxRoutes {
			m.routes = append(m.routes, bytes.TrimSpace(value[start:i]))
		}
		start = i + 1
	}
}

// param is the value of a parameter of a header, nil when there is none.
func param(value []byte, name string) []byte {
	i := bytes.Index(value, []byte(";"+name+"="))
	if i < 0 {
		return nil
	}
	value = value[i+len(name)+2:]
	if end := bytes.IndexAny(value, "; ,>"); end >= 0 {
		return value[:end]
	}
	return value
}

// uriOf is the URI of an address, nil when there is none.
func uriOf(value []byte) []byte {
	if _, rest, ok := bytes.Cut(value, []byte("<")); ok {
		uri, _, _ := bytes.Cut(rest, []byte(">"))
		return uri
	}
	uri, _, _ := bytes.Cut(value, []byte(";"))
	return uri
}
