package sipproxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/sipmsg"
)

// A dialog that a PBX opened stays with the server of the PBX that opened it,
// where that is not the domain's upstream: its address is sealed into the
// token of the Record-Route value that the client sends back (decision 10).
// The seal is ours, so a client can only return what we gave it.

const (
	sealMAC = 8  // characters, 40 bits: a forgery has to be tried on a live core
	sealV4  = 10 // characters of 4 address and 2 port bytes
	sealV6  = 29 // of 16 and 2
)

// seal returns the user part for an instance's token and a next hop. The zero
// hop needs none.
func (p *Proxy) seal(token string, hop hopAddr) string {
	if !hop.addr.IsValid() {
		return token
	}
	raw := binary.BigEndian.AppendUint16(hop.addr.Addr().AsSlice(), hop.addr.Port())
	body := token + hop.kind() + tokenText.EncodeToString(raw)
	return body + p.sealOf(0, body)
}

func (p *Proxy) sealOf(key int, body string) string {
	mac := hmac.New(sha256.New, p.cfg.TokenKeys[key])
	mac.Write([]byte("next hop\x00" + body))
	return tokenText.EncodeToString(mac.Sum(nil))[:sealMAC]
}

// unseal takes a user part apart. A seal that is not ours is no token at all.
func (p *Proxy) unseal(user string) (token string, hop hopAddr, ok bool) {
	n := len(user) - tokenLen - 1 - sealMAC
	if n != sealV4 && n != sealV6 {
		return user, hopAddr{}, len(user) == tokenLen
	}
	body, mac := user[:len(user)-sealMAC], user[len(user)-sealMAC:]
	for key := range p.cfg.TokenKeys {
		if !hmac.Equal([]byte(mac), []byte(p.sealOf(key, body))) {
			continue
		}
		raw, err := tokenText.DecodeString(body[tokenLen+1:])
		if err != nil || len(raw) < 6 {
			return "", hopAddr{}, false
		}
		addr, _ := netip.AddrFromSlice(raw[:len(raw)-2])
		port := binary.BigEndian.Uint16(raw[len(raw)-2:])
		return body[:tokenLen], hopAddr{addr: netip.AddrPortFrom(addr, port), udp: body[tokenLen] == 'u'}, true
	}
	return "", hopAddr{}, false
}

// hopAddr is a PBX server a dialog stays with; zero for the domain's upstream.
type hopAddr struct {
	addr netip.AddrPort
	udp  bool
}

func (h hopAddr) kind() string {
	if h.udp {
		return "u"
	}
	return "t"
}

// String is the hop as core/upstream dials it.
func (h hopAddr) String() string {
	if h.udp {
		return "udp:" + h.addr.String()
	}
	return "tcp:" + h.addr.String()
}

// hopOf finds the server a new dialog stays with: the one in the top
// Record-Route value, or in Contact, if it is a trusted address that is not
// the upstream's own. A name is not resolved.
func (p *Proxy) hopOf(req *sip.Request, from *peer, domain string) hopAddr {
	value := headerValue(req, "Record-Route")
	if value == "" {
		value = headerValue(req, "Contact")
	}
	na, err := sipmsg.ParseNameAddr(value)
	if err != nil {
		return hopAddr{}
	}
	addr, err := netip.ParseAddr(strings.Trim(na.URI.Host, "[]"))
	if err != nil || !p.up.Trusted(addr) {
		return hopAddr{}
	}
	port := na.URI.Port
	if port == 0 {
		port = 5060
	}
	transport, named := na.URI.Params.Get("transport")
	if !named {
		transport = from.via
	}
	hop := hopAddr{addr: netip.AddrPortFrom(addr.Unmap(), uint16(port)), udp: strings.EqualFold(transport, "udp")}
	if up := p.livePBX(domain); up != nil && up.remote() == hop.addr {
		return hopAddr{}
	}
	return hop
}
