package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// Where clients that know nothing but a host ask for its WebSocket (RFC 6415
// §2, XEP-0156 §3).
const (
	hostMetaXML  = "/.well-known/host-meta"
	hostMetaJSON = "/.well-known/host-meta.json"
)

// page is an answer that is no error. Scripts from anywhere may read it.
type page struct{ kind, body string }

// hostMeta answers where XMPP over WebSocket is to be found: here, at the host
// that was asked. The edge knows no domain; who asks at a name gets that name.
func (u Upgrade) hostMeta(req *http.Request) *Refusal {
	switch {
	case req.Method != http.MethodGet:
		return &Refusal{Status: http.StatusMethodNotAllowed, Why: DeniedHTTP, Err: errors.New("only GET is served here")}
	case !plainHost(req.Host):
		return &Refusal{Status: http.StatusBadRequest, Why: DeniedHTTP, Err: errors.New("a Host that is neither name nor address")}
	case !u.Ready(XMPP):
		return notReady(XMPP)
	}
	var p page
	const rel = "urn:xmpp:alt-connections:websocket"
	if to := "wss://" + req.Host + Path; req.URL.Path == hostMetaJSON {
		p.kind = "application/json"
		body, _ := json.Marshal(map[string]any{"links": []any{map[string]string{"rel": rel, "href": to}}}) // never fails
		p.body = string(body) + "\n"
	} else { // plainHost leaves nothing to escape
		p.kind = "application/xrd+xml; charset=utf-8"
		p.body = fmt.Sprintf("<?xml version='1.0' encoding='utf-8'?>\n<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n"+
			"  <Link rel='%s' href='%s'/>\n</XRD>\n", rel, to)
	}
	return &Refusal{Status: http.StatusOK, Why: Told, Err: errors.New("not an upgrade, but a page"), page: p}
}

// plainHost reports whether a Host header is a DNS name or an address, with or
// without a port.
func plainHost(s string) bool {
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		if a, err := netip.ParseAddr(h); err == nil {
			return a.Zone() == "" && (a.Is4() || strings.HasPrefix(s, "["))
		}
		host = h
	} else if inner, ok := strings.CutPrefix(s, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return err == nil && a.Is6() && a.Zone() == "" && strings.HasSuffix(s, "]")
	}
	if host = strings.TrimSuffix(host, "."); host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return false
		}
	}
	return true
}
