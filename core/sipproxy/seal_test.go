package sipproxy

import (
	"net/netip"
	"strings"
	"testing"
)

func TestASealedHopComesBackAndAForgedOneDoesNot(t *testing.T) {
	p := New(Config{TokenKeys: [][]byte{[]byte("new"), []byte("old")}, Advertise: advertise}, Deps{})
	token := p.token("sip:alice@example.com", aliceURN, 1)
	for _, hop := range []hopAddr{
		{addr: netip.MustParseAddrPort("10.0.0.9:5070")},
		{addr: netip.MustParseAddrPort("[2001:db8::1]:5060"), udp: true},
		{},
	} {
		user := p.seal(token, hop)
		if len(user) > 70 || strings.ToLower(user) != user {
			t.Errorf("user part %q", user)
		}
		got, back, ok := p.unseal(user)
		if !ok || got != token || back != hop {
			t.Errorf("%v came back as %v, %v", hop, back, ok)
		}
	}
	user := p.seal(token, hopAddr{addr: netip.MustParseAddrPort("10.0.0.9:5070")})
	for i := range user {
		forged := user[:i] + "7" + user[i+1:]
		if forged == user {
			continue
		}
		if _, hop, ok := p.unseal(forged); ok || hop.addr.IsValid() {
			t.Errorf("character %d changed and the seal held", i)
		}
	}
	old := New(Config{TokenKeys: [][]byte{[]byte("old")}, Advertise: advertise}, Deps{})
	if _, hop, ok := p.unseal(old.seal(token, hopAddr{addr: netip.MustParseAddrPort("10.0.0.9:5070")})); !ok || !hop.addr.IsValid() {
		t.Error("a seal of the previous key is not known any more")
	}
}
