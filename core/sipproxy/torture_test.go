package sipproxy

import (
	"os"
	"testing"
)

// RFC 4475 §3.3.12–14: what stands in a contact's URI and what beside it stays
// apart when the PBX accepts, and the client reads back what it wrote.
func TestRFC4475_3_3_12To14_AContactComesBackAsItWasSent(t *testing.T) {
	for name, want := range map[string]string{
		"cparam01": "sip:+19725552222@gw1.example.net;unknownparam",
		"cparam02": "<sip:+19725552222@gw1.example.net;unknownparam>",
		"regescrt": "<sip:user@example.com?Route=%3Csip:sip.example.com%3E>",
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile("../sipmsg/testdata/torture/pass_" + name + ".dat")
			if err != nil {
				t.Fatal(err)
			}
			inTown(t, func(t *testing.T, w *town) {
				ph := w.phone("alice", "tls").connects()
				ph.write(string(raw))
				w.accepts()
				answer := ph.hears("SIP/2.0 200")
				if got := first(answer, "Contact"); got != want+";expires=3600" {
					t.Errorf("Contact %q, want %q", got, want)
				}
			})
		})
	}
}
