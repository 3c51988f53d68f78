package sipproxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// What a client sends back in a Route header decides where its requests inside
// a dialog go, past the checks of requests outside one. So the value that it
// got in Record-Route is sealed: it holds for one dialog, by its Call-ID, and
// for one way on: the domain's PBX, one server of it that the dialog stays with
// (decision 10), or the one instance at the other end. A client can only return
// what we gave it, for what we gave it.

const (
	sealMAC = 10 // characters, 50 bits: a forgery has to be tried on a live core
	sealV4  = 10 // characters of 4 address and 2 port bytes
	sealV6  = 29 // of 16 and 2
)

// The ways on.
const (
	wayPBX    = 'p' // the domain's upstream
	wayTCP    = 't' // a server of the PBX, over TCP
	wayUDP    = 'u' // the same over UDP
	wayTLS    = 's' // the same over TLS
	wayClient = 'c' // the instance that the next value names
)

// A sealed is a user part of ours, taken apart. way is 0 in a plain token.
type sealed struct {
	token string
	way   byte
	hop   hopAddr
	body  string // all but mac
	mac   string
}

// seal returns the user part that names an instance in the dialogs of a
// Call-ID. With a hop they stay with that server, with a peer, which is a
// token, they lead to that instance.
func (p *Proxy) seal(token, callID string, hop hopAddr, peer string) string {
	way, addr := string(wayPBX), ""
	switch {
	case peer != "":
		way = string(wayClient)
	case hop.addr.IsValid():
		way = hop.way()
		addr = tokenText.EncodeToString(binary.BigEndian.AppendUint16(hop.addr.Addr().AsSlice(), hop.addr.Port()))
	}
	body := token + way + addr
	return body + p.sealOf(0, body, callID, peer)
}

func (p *Proxy) sealOf(key int, body, callID, peer string) string {
	mac := hmac.New(sha256.New, p.cfg.TokenKeys[key])
	for _, s := range []string{"dialog", body, callID, peer} {
		mac.Write([]byte(s))
		mac.Write([]byte{0})
	}
	return tokenText.EncodeToString(mac.Sum(nil))[:sealMAC]
}

// unseal takes a user part apart, without a word on whether its seal holds.
func unseal(user string) (s sealed, ok bool) {
	if len(user) == tokenLen {
		return sealed{token: user}, true
	}
	n := len(user) - tokenLen - 1 - sealMAC
	if n < 0 {
		return sealed{}, false
	}
	s = sealed{token: user[:tokenLen], way: user[tokenLen], body: user[:len(user)-sealMAC], mac: user[len(user)-sealMAC:]}
	switch s.way {
	case wayPBX, wayClient:
		return s, n == 0
	case wayFlow:
		return s, n == flowMark
	case wayTCP, wayUDP, wayTLS:
		raw, err := tokenText.DecodeString(s.body[tokenLen+1:])
		// The decoder passes over line ends: what it gives may be shorter than n.
		if err != nil || n != sealV4 && n != sealV6 || len(raw) != tokenText.DecodedLen(n) {
			return sealed{}, false
		}
		addr, _ := netip.AddrFromSlice(raw[:len(raw)-2])
		port := binary.BigEndian.Uint16(raw[len(raw)-2:])
		s.hop = hopAddr{addr: netip.AddrPortFrom(addr, port), transport: wayNames[s.way]}
		return s, addr.IsValid()
	}
	return sealed{}, false
}

// holds says whether we sealed s for the dialogs of a Call-ID, with the newest
// key or the one before.
func (p *Proxy) holds(s sealed, callID, peer string) bool {
	for key := range p.cfg.TokenKeys {
		if s.way != 0 && hmac.Equal([]byte(s.mac), []byte(p.sealOf(key, s.body, callID, peer))) {
			return true
		}
	}
	return false
}

// wayNames are the transports of the ways to one server, as core/upstream and
// URIs name them.
var wayNames = map[byte]string{wayTCP: "tcp", wayUDP: "udp", wayTLS: "tls"}

// hopAddr is a PBX server a dialog stays with; zero for the domain's upstream.
type hopAddr struct {
	addr      netip.AddrPort
	transport string // "tcp", "udp" or "tls"
}

func (h hopAddr) way() string {
	for way, name := range wayNames {
		if name == h.transport {
			return string(way)
		}
	}
	return string(wayTCP)
}

// String is the hop as core/upstream dials it.
func (h hopAddr) String() string { return wayNames[h.way()[0]] + ":" + h.addr.String() }

// stays is the server that a dialog which goes out to the PBX stays with: the
// one that takes it, where the domain has several.
func (p *Proxy) stays(to *peer, domain string) hopAddr {
	if !p.up.Several(domain) {
		return hopAddr{}
	}
	return hopAddr{addr: to.up.Remote(), transport: strings.ToLower(to.via)}
}

// hopOf is the server that a dialog which comes from the PBX stays with: the
// one that sent the request, where that is not the domain's one upstream. Only
// its own word counts, the top Via: what Record-Route and Contact say may be
// the far caller's.
func (p *Proxy) hopOf(req *sip.Request, from *peer, domain string) hopAddr {
	via := req.Via()
	if via == nil {
		return hopAddr{}
	}
	port := via.Port
	if port == 0 {
		port = defaultPort(from.via)
	}
	addr := from.remote().Addr().Unmap()
	hop := hopAddr{addr: netip.AddrPortFrom(addr, uint16(port)), transport: strings.ToLower(from.via)}
	if from.via == "TLS" && !p.up.Serves(addr, domain) { // nobody knows whom to expect there
		return hopAddr{}
	}
	if up := p.livePBX(domain); !p.up.Several(domain) && up != nil && up.remote() == hop.addr {
		return hopAddr{}
	}
	return hop
}

// defaultPort is the one that a Via without port means (RFC 3261 §18.2.2).
func defaultPort(transport string) int {
	if strings.EqualFold(transport, "tls") {
		return 5061
	}
	return 5060
}
