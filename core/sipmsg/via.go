package sipmsg

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

var errVia = errors.New("malformed")

// parseVia reads one Via value (RFC 3261 §20.42), white space included.
// Parameter names become lower case; quoted values may hold commas.
func parseVia(s string) (*sip.ViaHeader, error) {
	name, rest, ok := strings.Cut(s, "/")
	version, rest, ok2 := strings.Cut(rest, "/")
	rest = trim(rest)
	sp := strings.IndexAny(rest, " \t")
	if !ok || !ok2 || sp < 0 {
		return nil, errVia
	}
	h := &sip.ViaHeader{ProtocolName: trim(name), ProtocolVersion: trim(version), Transport: rest[:sp]}
	if !isToken(h.ProtocolName) || !isToken(h.ProtocolVersion) || !isToken(h.Transport) {
		return nil, errVia
	}
	sentBy, params := trim(rest[sp:]), ""
	if i := strings.IndexByte(sentBy, ';'); i >= 0 {
		sentBy, params = trim(sentBy[:i]), sentBy[i:]
	}
	var err error
	if h.Host, h.Port, err = splitHostPort(closeColon(sentBy)); err != nil {
		return nil, err
	}
	// sipgo puts brackets around IPv6 addresses, but for what it takes for
	// IPv4 or for no address: those keep their own.
	bare := strings.Trim(h.Host, "[]")
	if a, err := netip.ParseAddr(bare); err == nil && !a.Is4In6() {
		h.Host = bare
	}
	p, err := parseParams(params)
	if err != nil {
		return nil, err
	}
	h.Params = sipParams(p, true)
	return h, nil
}

// closeColon drops the white space allowed around the port's colon.
func closeColon(s string) string {
	if !strings.ContainsAny(s, " \t") {
		return s
	}
	i := strings.LastIndexByte(s, ':')
	if i < strings.IndexByte(s, ']') || i < 0 {
		return s
	}
	return trimRight(s[:i]) + ":" + trim(s[i+1:])
}

// sipParams turns parameters into sipgo's form, which writes quotes by itself
// around values that hold white space and none around others.
func sipParams(params Params, lowerNames bool) sip.HeaderParams {
	if len(params) == 0 {
		return nil
	}
	out := make(sip.HeaderParams, 0, len(params)+2) // room for received and rport
	for _, p := range params {
		name, value := p.Name, p.Value
		if lowerNames {
			name = lower(name)
		}
		if strings.ContainsAny(value, " \t") {
			value = value[1 : len(value)-1]
		}
		out = append(out, sip.HeaderKV{K: name, V: value})
	}
	return out
}

// SetReceived notes in the top Via where a request came from: received when
// the address differs from sent-by or rport was asked for, and the port in
// rport then (RFC 3261 §18.2.1, RFC 3581 §4). What the sender put there is
// replaced.
func SetReceived(req *sip.Request, from netip.AddrPort) {
	via := req.Via()
	if via == nil {
		return
	}
	addr := from.Addr().Unmap().WithZone("")
	_, rport := via.Params.Get("rport")
	via.Params.Remove("received")
	if rport || !isAddr(via.Host, addr) {
		via.Params.Add("received", addr.String())
	}
	if rport {
		via.Params.Add("rport", strconv.Itoa(int(from.Port())))
	}
}

func isAddr(host string, addr netip.Addr) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap() == addr
}
