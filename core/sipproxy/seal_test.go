package sipproxy

import (
	"net/netip"
	"strings"
	"testing"
)

func TestASealHoldsForItsDialogAndItsWayAlone(t *testing.T) {
	p := New(Config{TokenKeys: [][]byte{[]byte("new"), []byte("old")}, Advertise: advertise}, Deps{})
	old := New(Config{TokenKeys: [][]byte{[]byte("old")}, Advertise: advertise}, Deps{})
	token, peer := p.token("sip:alice@example.com", aliceURN, 1), p.token("sip:bob@example.com", aliceURN, 1)
	for name, c := range map[string]struct {
		hop  hopAddr
		peer string
	}{
		"the upstream":     {},
		"a server, TCP":    {hop: hopAddr{addr: netip.MustParseAddrPort("10.0.0.9:5070"), transport: "tcp"}},
		"a server, UDP":    {hop: hopAddr{addr: netip.MustParseAddrPort("[2001:db8::1]:5060"), transport: "udp"}},
		"another instance": {peer: peer},
	} {
		t.Run(name, func(t *testing.T) {
			user := p.seal(token, "call-1", c.hop, c.peer)
			if len("sip:"+user+"@"+public+";transport=tls") > 128 || strings.ToLower(user) != user {
				t.Errorf("user part %q", user)
			}
			s, ok := unseal(user)
			if !ok || s.token != token || s.hop != c.hop || !p.holds(s, "call-1", c.peer) {
				t.Fatalf("came back as %+v, %v", s, ok)
			}
			if p.holds(s, "call-2", c.peer) {
				t.Error("holds for another call")
			}
			if p.holds(s, "call-1", token) {
				t.Error("holds for another peer")
			}
			for i := range user {
				forged := user[:i] + "7" + user[i+1:]
				if f, ok := unseal(forged); forged != user && ok && p.holds(f, "call-1", c.peer) {
					t.Errorf("character %d changed and the seal held", i)
				}
			}
			if s, ok := unseal(old.seal(token, "call-1", c.hop, c.peer)); !ok || !p.holds(s, "call-1", c.peer) {
				t.Error("a seal of the previous key is not known any more")
			}
		})
	}
	if s, ok := unseal(token); !ok || s.token != token || p.holds(s, "call-1", "") {
		t.Errorf("a plain token is taken for %+v, %v", s, ok)
	}
}
