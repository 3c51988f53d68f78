package sipmsg

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte(invite("Contact: <sip:a@h>, sip:b@h", "Route: <sip:a;lr>")))
	f.Add([]byte(register(linphoneContact)))
	f.Add(bigInvite())
	f.Add([]byte("SIP/2.0 200 OK\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: a<sip:a@h>\r\n\r\n"))
	files, _ := filepath.Glob("testdata/torture/*.dat")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, fault := Parse(raw)
		if m == nil {
			if fault == nil {
				t.Fatal("neither message nor fault")
			}
			return
		}
		head, _, _ := strings.Cut(m.String(), "\r\n\r\n")
		if bare := strings.ReplaceAll(head, "\r\n", ""); strings.ContainsAny(bare, "\r\n") {
			t.Fatalf("bare line end in %q", head)
		}
		if fault != nil {
			checkAnswer(t, m.(*sip.Request), fault)
			return
		}
		again, fault := Parse(Bytes(m))
		if fault != nil {
			t.Fatalf("what it writes is refused: %v\n%q", fault, m)
		}
		if again.String() != m.String() {
			t.Fatalf("not stable:\n%q\n%q", m, again)
		}
	})
}

// checkAnswer wants an answer to a faulty request that parses as far as the
// request gave it what an answer needs.
func checkAnswer(t *testing.T, req *sip.Request, f *Fault) {
	t.Helper()
	if f.Status < 400 {
		t.Fatalf("status %d", f.Status)
	}
	_, fault := Parse(Bytes(Response(req, f.Status, f.Reason)))
	if fault != nil && req.From() != nil && req.To() != nil && req.CallID() != nil && req.CSeq() != nil && fault.Header != "Via" {
		t.Fatalf("the answer is refused: %v\n%q", fault, req)
	}
}
