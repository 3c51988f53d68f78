package sipmsg

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// Trap 29: sipgo alone accepts 22 of RFC 4475's 37 invalid messages. Each file
// gets the verdict its name says.
func TestTrap29_RFC4475_EachTortureMessageGetsItsVerdict(t *testing.T) {
	files, err := filepath.Glob("testdata/torture/*.dat")
	if err != nil || len(files) < 45 {
		t.Fatalf("%d torture files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".dat")
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m, f := Parse(raw)
			kind, rest, _ := strings.Cut(name, "_")
			status, _, _ := strings.Cut(rest, "_")
			checkVerdict(t, kind, status, m, f)
		})
	}
}

func checkVerdict(t *testing.T, kind, status string, m sip.Message, f *Fault) {
	t.Helper()
	switch kind {
	case "good", "pass":
		if m == nil || f != nil {
			t.Fatalf("refused: %v", f)
		}
		if again, f := Parse(Bytes(m)); f != nil || again.String() != m.String() {
			t.Errorf("what it writes reads differently: %v\n%s\n%s", f, m, again)
		}
	case "bad":
		req, ok := m.(*sip.Request)
		if !ok || f == nil {
			t.Fatalf("message %T, fault %v: want a request and a fault", m, f)
		}
		if strconv.Itoa(f.Status) != status {
			t.Errorf("answered with %v, want %s", f, status)
		}
		if res := Response(req, f.Status, f.Reason); res.Via() == nil {
			t.Error("the answer has no Via")
		} else if _, err := sip.ParseMessage(Bytes(res)); err != nil && req.From() != nil {
			t.Errorf("the answer cannot be read: %v", err)
		}
	case "close":
		if m != nil || f == nil || !f.Close || strconv.Itoa(f.Status) != status {
			t.Errorf("message %v, fault %v", m, f)
		}
	case "drop":
		if m != nil || f == nil || f.Status != 0 || f.Close {
			t.Errorf("message %v, fault %v", m, f)
		}
	default:
		t.Fatalf("verdict %q", kind)
	}
}

func TestRFC4475_3_1_1_1_TheTortuousINVITEIsUnderstoodWhole(t *testing.T) {
	raw, err := os.ReadFile("testdata/torture/good_wsinv.dat")
	if err != nil {
		t.Fatal(err)
	}
	m, f := Parse(raw)
	if f != nil {
		t.Fatal(f)
	}
	req := m.(*sip.Request)
	if tag, _ := req.To().Params.Get("tag"); tag != "1918181833n" {
		t.Errorf("To tag %q", tag)
	}
	if tag, _ := req.From().Params.Get("tag"); tag != "98asjd8" {
		t.Errorf("From tag %q", tag)
	}
	if cs := req.CSeq(); cs.SeqNo != 9 || cs.MethodName != sip.INVITE {
		t.Errorf("CSeq %v", cs)
	}
	if mf := req.MaxForwards(); mf.Val() != 68 {
		t.Errorf("Max-Forwards %v", mf)
	}
	if vias := Values(req, "Via"); len(vias) != 3 {
		t.Errorf("Vias %q", vias)
	}
	if h := req.GetHeader("Subject"); h == nil || h.Value() != "" {
		t.Errorf("Subject %v", h)
	}
	if got := Get(req, "NewFangledHeader"); got != "newfangled value continued newfangled value" {
		t.Errorf("unfolded to %q", got)
	}
	cs, fault := Contacts(req)
	if fault != nil || len(cs) != 1 || cs[0].Display != `Quoted string ""` {
		t.Fatalf("Contact %+v, %v", cs, fault)
	}
	if q, _ := cs[0].Params.Get("q"); q != "0.33" {
		t.Errorf("q %q", q)
	}
}
