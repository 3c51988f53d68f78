package sipmsg

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// corpusSum is SHA-256 over name, NUL and bytes of each message in the archive
// of RFC 4475's appendix A, in the order of their names.
const corpusSum = "5d48c80f0ce4cd5f325cd7dfc19997650d37367263e874298948121c38a158d9"

func TestRFC4475_TheCorpusIsThatOfTheAppendixByteForByte(t *testing.T) {
	files, err := filepath.Glob("testdata/torture/*.dat")
	if err != nil || len(files) != 50 {
		t.Fatalf("%d messages, %v, want 50", len(files), err)
	}
	name := func(file string) string {
		_, n, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".dat"), "_")
		return n[strings.LastIndexByte(n, '_')+1:]
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(name(a), name(b)) })
	sum := sha256.New()
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(append([]byte(name(file)+"\x00"), raw...))
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != corpusSum {
		t.Errorf("the sum is %s", got)
	}
}

func TestRFC5118_EachMessageGetsItsVerdict(t *testing.T) {
	files, err := filepath.Glob("testdata/rfc5118/*.dat")
	if err != nil || len(files) != 12 {
		t.Fatalf("%d messages, %v, want 12", len(files), err)
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

// read5118 is one valid request of RFC 5118.
func read5118(t *testing.T, name string) *sip.Request {
	t.Helper()
	raw, err := os.ReadFile("testdata/rfc5118/good_" + name + ".dat")
	if err != nil {
		t.Fatal(err)
	}
	m, f := Parse(raw)
	if f != nil {
		t.Fatal(f)
	}
	return m.(*sip.Request)
}

func TestRFC5118_4_3And4_4_APortIsOneOutsideTheBracketsOnly(t *testing.T) {
	for name, port := range map[string]int{"port-ambiguous": 0, "port-unambiguous": 5070} {
		u, err := ParseURI(read5118(t, name).Recipient.String())
		if err != nil || u.Port != port {
			t.Errorf("%s: %+v, %v, want port %d", name, u, err, port)
		}
	}
}

func TestRFC5118_4_5_ReceivedIsReadWithAndWithoutBrackets(t *testing.T) {
	for name, want := range map[string]string{
		"via-received-param-with-delim": "[2001:db8::9:255]",
		"via-received-param-no-delim":   "2001:db8::9:255",
	} {
		req := read5118(t, name)
		if got, _ := req.Via().Params.Get("received"); got != want || req.Via().Host != "2001:db8::9:1" {
			t.Errorf("%s: received %q at %q", name, got, req.Via().Host)
		}
	}
}

func TestRFC5118_4_7And4_9_ViasMixFamiliesAndLeaveAsTheyCame(t *testing.T) {
	for name, want := range map[string][]string{
		"mult-ip-in-header": {
			"SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3-111",
			"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144",
			"SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200",
		},
		"ipv4-mapped-ipv6": {
			"SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19",
			"SIP/2.0/UDP [::ffff:192.0.2.2];branch=z9hG4bKas3-111",
		},
	} {
		if got := Values(read5118(t, name), "Via"); !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestRFC5118_4_10_ThreeColonsAreToleratedAndLeftToWhoUsesTheAddress(t *testing.T) {
	for _, name := range []string{"ipv6-bug-abnf-3-colons", "ipv6-correct-abnf-2-colons"} {
		if req := read5118(t, name); req.Recipient.User != "user" {
			t.Errorf("%s: %+v", name, req.Recipient)
		}
	}
}
