package sipproxy

import (
	"net/netip"
	"strings"
	"testing"
)

// FuzzUnseal: whatever a client writes where our tokens stand is taken apart
// into the same characters, and no seal holds that we did not make.
func FuzzUnseal(f *testing.F) {
	p := &Proxy{cfg: Config{TokenKeys: [][]byte{[]byte("a key of the core, and"), []byte("the one before")}}}
	token := p.token("sip:alice@example.com", "urn:uuid:1", 1)
	made := map[string]bool{}
	for _, hop := range []hopAddr{
		{},
		{addr: netip.MustParseAddrPort("192.0.2.1:5060"), transport: "tls"},
		{addr: netip.MustParseAddrPort("[2001:db8::1]:5061"), transport: "udp"},
	} {
		s := p.seal(token, "call", hop, "")
		made[s] = true
		f.Add(s)
	}
	f.Add(p.seal(token, "call", hopAddr{}, token))
	f.Add(token)
	f.Add("")
	f.Add(strings.Repeat("\n", tokenLen+1+sealV4+sealMAC))
	f.Fuzz(func(t *testing.T, user string) {
		s, ok := unseal(user)
		if !ok {
			return
		}
		if s.way == 0 {
			if s.token != user {
				t.Fatalf("%q is the token %q", user, s.token)
			}
			return
		}
		if s.body+s.mac != user || !strings.HasPrefix(s.body, s.token+string(s.way)) {
			t.Fatalf("%q is taken apart into %+v", user, s)
		}
		if p.holds(s, "call", "") && !made[user] {
			t.Fatalf("%q holds", user)
		}
		if p.holds(s, "another call", "") {
			t.Fatalf("%q holds in another call", user)
		}
	})
}
