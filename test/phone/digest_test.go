package phone

import (
	"strings"
	"testing"
)

// The example of RFC 7616 §3.9.1, without its cnonce: what matters is that a
// digest of either algorithm is one that the server's own sum gives.
func TestTheFirstKnownAlgorithmIsAnswered(t *testing.T) {
	challenge := func(algorithms ...string) *Message {
		m := &Message{Status: 401}
		for _, a := range algorithms {
			m.Add("WWW-Authenticate", `Digest realm="example.com", nonce="n", algorithm=`+a+`, qop="auth,auth-int", opaque="o"`)
		}
		return m
	}
	for want, m := range map[string]*Message{
		"algorithm=SHA-256": challenge("SHA-512-256", "SHA-256", "MD5"),
		"algorithm=MD5":     challenge("MD5", "SHA-256"),
	} {
		h, err := authorization(m, &Message{Method: "REGISTER", URI: "sip:example.com"}, "alice", "secret")
		must(t, err)
		if h.Name != "Authorization" || !strings.Contains(h.Value, want) || !strings.Contains(h.Value, `opaque="o"`) || !strings.Contains(h.Value, "qop=auth,") {
			t.Errorf("%s: got %s", want, h.Value)
		}
	}
	if _, err := authorization(challenge("SHA-512-256"), &Message{Method: "REGISTER"}, "alice", "secret"); err == nil {
		t.Error("a challenge of unknown algorithms alone was answered")
	}
}

func TestListsAreCutOutsideQuotesAndAngles(t *testing.T) {
	m := &Message{}
	m.Add("m", `"Bob, \"the\" <one>" <sip:bob@x;a=1,2>;q=1, <sip:carol@x>`)
	if got := m.Values("Contact"); len(got) != 2 || got[1] != "<sip:carol@x>" {
		t.Errorf("got %q", got)
	}
	uri, params := address(`"a;b <x>" <sip:bob@x;lr>;tag=7`)
	if tag, _ := param(params, "TAG"); uri != "sip:bob@x;lr" || tag != "7" {
		t.Errorf("got %q %q", uri, params)
	}
}
