package sipmsg

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// invite is a minimal good INVITE; extra header lines go before its last one.
func invite(extra ...string) string {
	lines := append([]string{
		"INVITE sip:bob@example.com SIP/2.0",
		"Via: SIP/2.0/TLS client.invalid;branch=z9hG4bK1",
		"From: <sip:alice@example.com>;tag=a1",
		"To: <sip:bob@example.com>",
		"Call-ID: c1@client",
		"CSeq: 1 INVITE",
		"Max-Forwards: 70",
	}, extra...)
	return strings.Join(append(lines, "Content-Length: 0", "", ""), "\r\n")
}

func register(contact string) string {
	return strings.NewReplacer("INVITE sip:bob@", "REGISTER sip:", "CSeq: 1 INVITE", "CSeq: 1 REGISTER").
		Replace(invite("Contact: " + contact))
}

func mustParse(t testing.TB, raw string) *sip.Request {
	t.Helper()
	m, f := Parse([]byte(raw))
	if f != nil {
		t.Fatalf("refused: %v\n%s", f, raw)
	}
	return m.(*sip.Request)
}

// wantFault parses raw and compares status and culprit; it returns what else
// the caller may look at.
func wantFault(t testing.TB, raw string, status int, header string) (sip.Message, *Fault) {
	t.Helper()
	m, f := Parse([]byte(raw))
	if f == nil {
		t.Fatalf("accepted:\n%q", raw)
	}
	if f.Status != status || f.Header != header {
		t.Errorf("fault %v (header %q), want %d for %q", f, f.Header, status, header)
	}
	return m, f
}

func TestTrap14_ABadHeaderIsAnsweredNotALostConnection(t *testing.T) {
	for name, line := range map[string]string{
		"From":    "From: <sip:alice@example.com",
		"Contact": "Contact: <>",
		"Route":   "Route: nonsense",
		"CSeq":    "CSeq: many INVITE",
		"Expires": "Expires: -1",
	} {
		t.Run(name, func(t *testing.T) {
			raw := invite(line)
			if name == "From" || name == "CSeq" {
				raw = strings.Replace(invite(), pick(invite(), name+":"), line, 1)
			}
			m, f := wantFault(t, raw, 400, name)
			if m == nil || f.Close {
				t.Errorf("message %v, close %v: want an answer and the connection kept", m, f.Close)
			}
		})
	}
	if _, f := Parse([]byte(invite("Refer-To: <<<", "P-Asserted-Identity: ???", "Date: soon", "Supported: ,,"))); f != nil {
		t.Errorf("a header of no concern to a proxy killed the message: %v", f)
	}
}

// pick is the line of raw that starts with prefix.
func pick(raw, prefix string) string {
	for line := range strings.SplitSeq(raw, "\r\n") {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	return ""
}

func TestTrap14_AFaultQuotesNothingOfTheMessage(t *testing.T) {
	for _, raw := range []string{
		invite("Contact: <secret", "Route: secret"), "secret\r\n\r\n", "INVITE secret SIP/2.0\r\n\r\n",
		strings.Replace(invite(), "CSeq: 1", "CSeq: secret", 1), invite("secret"), invite("se cret: x"),
	} {
		if _, f := Parse([]byte(raw)); f == nil || strings.Contains(f.Error(), "secret") {
			t.Errorf("fault %v", f)
		}
	}
}

func TestTrap15_FoldedHeadersBecomeOneLine(t *testing.T) {
	req := mustParse(t, invite("Subject: I know\r\n\tyou're there,\r\n  pick up", "Odd:\r\n a"))
	if got := Get(req, "Subject"); got != "I know you're there, pick up" {
		t.Errorf("Subject %q", got)
	}
	if got := Get(req, "Odd"); got != "a" {
		t.Errorf("Odd %q", got)
	}
	if strings.Contains(req.String(), "\r\n ") || strings.Contains(req.String(), "\r\n\t") {
		t.Errorf("folding goes on:\n%q", req)
	}
}

func TestTrap16_BareLineEndsAndNULAreRefused(t *testing.T) {
	for name, value := range map[string]string{
		"LF": "a\nEvil: 1", "CR": "a\rEvil: 1", "NUL": "a\x00b", "CR before CRLF": "a\r", "NUL first": "\x00",
	} {
		t.Run(name, func(t *testing.T) {
			m, f := wantFault(t, invite("Subject: "+value), 400, "")
			if !f.Close {
				t.Error("the connection may go on")
			}
			if m == nil || strings.Contains(m.String(), "Evil") {
				t.Errorf("message:\n%q", m)
			}
		})
	}
	if m, f := Parse([]byte("INVITE sip:a@b\n SIP/2.0\r\n\r\n")); m != nil || f == nil || !f.Close {
		t.Errorf("LF in the first line: %v, %v", m, f)
	}
}

func TestTrap17_ASecondSingleInstanceHeaderIsRefused(t *testing.T) {
	for _, name := range []string{"Content-Length", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Expires"} {
		t.Run(name, func(t *testing.T) {
			line := pick(invite("Expires: 5"), name+":")
			for _, again := range []string{line, strings.ToUpper(name) + pick(line+"x", name)[len(name):]} {
				_, f := wantFault(t, invite("Expires: 5", again), 400, name)
				if f.Close != (name == "Content-Length") {
					t.Errorf("close is %v", f.Close)
				}
			}
		})
	}
	wantFault(t, invite("l: 0"), 400, "Content-Length")
	wantFault(t, invite("i: other"), 400, "Call-ID")
}

func TestTrap17_ABodyIsAsLongAsContentLengthSays(t *testing.T) {
	raw := strings.Replace(invite(), "Content-Length: 0", "Content-Length: 3", 1)
	if req := mustParse(t, raw+"abcde"); string(req.Body()) != "abc" {
		t.Errorf("body %q", req.Body())
	}
	_, f := wantFault(t, raw+"ab", 400, "Content-Length")
	if !f.Close {
		t.Error("framing is trusted")
	}
	for _, n := range []string{"-1", "+1", "1x", "", "99999999999", "0x1"} {
		wantFault(t, strings.Replace(invite(), "Content-Length: 0", "Content-Length: "+n, 1), 400, "Content-Length")
	}
	without := strings.Replace(invite(), "Content-Length: 0\r\n", "", 1) + "to the end"
	req := mustParse(t, without)
	if string(req.Body()) != "to the end" || req.ContentLength() == nil || *req.ContentLength() != 10 {
		t.Errorf("body %q, length %v", req.Body(), req.ContentLength())
	}
}

func TestTrap19_QuotedCommasDoNotSplitVia(t *testing.T) {
	req := mustParse(t, invite(`v: SIP/2.0/UDP a.example;x="1,2;3";branch=z9hG4bK2 , SIP / 2.0 / TCP [2001:db8::1] : 5070;BRANCH=z9hG4bK3`))
	want := []string{
		"SIP/2.0/TLS client.invalid;branch=z9hG4bK1",
		`SIP/2.0/UDP a.example;x="1,2;3";branch=z9hG4bK2`,
		"SIP / 2.0 / TCP [2001:db8::1] : 5070;BRANCH=z9hG4bK3",
	}
	if got := Values(req, "Via"); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestTrap20_BranchIsFoundInAnyCase(t *testing.T) {
	req := mustParse(t, strings.Replace(invite(), ";branch=", ";RPort;Branch=", 1))
	if b, _ := req.Via().Params.Get("branch"); b != "z9hG4bK1" {
		t.Errorf("branch %q", b)
	}
	if !req.Via().Params.Has("rport") {
		t.Error("rport not found")
	}
	req = mustParse(t, strings.Replace(invite(), ";tag=a1", " ; TAG = a1", 1))
	if tag, _ := req.From().Params.Get("tag"); tag != "a1" {
		t.Errorf("From tag %q", tag)
	}
}

func TestTrap21_EveryCompactNameIsKnown(t *testing.T) {
	for short, long := range map[string]string{
		"k": "Supported", "o": "Event", "x": "Session-Expires", "r": "Refer-To", "b": "Referred-By", "s": "Subject",
		"u": "Allow-Events", "e": "Content-Encoding", "d": "Request-Disposition", "j": "Reject-Contact",
		"y": "Identity", "n": "Identity-Info", "a": "Accept-Contact", "m": "Contact", "c": "Content-Type",
	} {
		for _, name := range []string{short, strings.ToUpper(short), strings.ToLower(long), strings.ToUpper(long)} {
			req := mustParse(t, invite(name+": <sip:x@y>"))
			if h := req.GetHeader(long); h == nil || h.Name() != long || h.Value() != "<sip:x@y>" {
				t.Errorf("%s: %v", name, h)
			}
		}
	}
	raw := strings.NewReplacer("Via:", "V:", "From:", "f :", "To:", "T:", "Call-ID:", "i:", "CSeq:", "cSEQ:",
		"Max-Forwards:", "MAX-FORWARDS:", "Content-Length:", "L:").Replace(invite())
	if got := mustParse(t, raw).String(); got != invite() {
		t.Errorf("got\n%s\nwant\n%s", got, invite())
	}
}

func TestTrap21_EachContactIsAHeaderOfItsOwn(t *testing.T) {
	req := mustParse(t, register(`"A, B" <sip:a,1@h>;q=1, <sip:b@h>`+"\r\nm: sip:c@h;expires=5"))
	want := []string{`"A, B" <sip:a,1@h>;q=1`, "<sip:b@h>", "sip:c@h;expires=5"}
	if got := Values(req, "Contact"); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if c := req.Contact(); c == nil || c.Address.User != "a,1" {
		t.Errorf("Contact() gives %v, want the first", c)
	}
	if n := Remove(req, "contact"); n != 3 || req.Contact() != nil || len(req.GetHeaders("contact")) != 0 {
		t.Errorf("removed %d, left %v", n, req.GetHeaders("contact"))
	}
}

func TestEveryListHeaderIsSplitInOrder(t *testing.T) {
	for _, name := range []string{"Route", "Record-Route", "Path", "Service-Route"} {
		req := mustParse(t, invite(name+": <sip:a;lr>, <sip:b;lr>;x=\",\"", name+": <sip:c;lr>"))
		want := []string{"<sip:a;lr>", `<sip:b;lr>;x=","`, "<sip:c;lr>"}
		if got := Values(req, name); !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	wantFault(t, invite("Route: <sip:a;lr>,"), 400, "Route")
	wantFault(t, invite(`Contact: "A <sip:a@b>`), 400, "Contact")
}

func TestWhatIsNotTouchedIsForwardedByteEqual(t *testing.T) {
	lines := []string{
		"From: Alice B. <sip:alice@example.com;x=%41>;tag=a1;Foo=\"b;c\"",
		"To: sip:bob@example.com;method=INVITE",
		"Contact: \"A\\\"b\" <sips:a@h:5061;ob;transport=TLS>;expires=\"60\";+sip.instance=\"<urn:uuid:1>\";reg-id=1",
		"Record-Route: \"p\" <sip:p1;lr=on>;rr=1",
		"P-Asserted-Identity: \"x\" <sip:x@y>, <tel:+1>",
		"Authorization: Digest username=\"a\", uri=\"sip:example.com\",nc=00000001",
		"X-Odd:  two  spaces ;;,,",
		"Via: SIP/2.0/UDP lower.example:5060;rport=;branch=z9hG4bKx;weird=\"a b\"",
		"Supported: a,b ,c",
	}
	base := strings.NewReplacer(pick(invite(), "From:")+"\r\n", "", pick(invite(), "To:")+"\r\n", "").Replace(invite(lines...))
	out := mustParse(t, base).String()
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		if !strings.Contains(out, "\r\n"+name+": "+strings.TrimSpace(value)+"\r\n") {
			t.Errorf("%s is changed in\n%s", line, out)
		}
	}
	if clone := mustParse(t, base).Clone().String(); clone != out {
		t.Errorf("a clone differs:\n%s", clone)
	}
}

func TestMandatoryHeadersAreMissed(t *testing.T) {
	for _, name := range []string{"From", "To", "Call-ID", "CSeq"} {
		m, f := wantFault(t, strings.Replace(invite(), pick(invite(), name+":")+"\r\n", "", 1), 400, name)
		if m == nil || f.Close {
			t.Errorf("%s: message %v, close %v", name, m, f.Close)
		}
	}
	m, f := wantFault(t, strings.Replace(invite(), pick(invite(), "Via:")+"\r\n", "", 1), 400, "Via")
	if m != nil || !f.Close {
		t.Errorf("without Via: message %v, close %v", m, f.Close)
	}
	if _, f := Parse([]byte(strings.Replace(invite(), "Max-Forwards: 70\r\n", "", 1))); f != nil {
		t.Errorf("without Max-Forwards (the proxy adds it, PX-2): %v", f)
	}
}

func TestNumbersOutOfRangeAreRefused(t *testing.T) {
	for _, v := range []string{"256", "-1", "99999999999999999999", "x", ""} {
		wantFault(t, strings.Replace(invite(), "Max-Forwards: 70", "Max-Forwards: "+v, 1), 400, "Max-Forwards")
	}
	for _, v := range []string{"2147483648 INVITE", "-1 INVITE", "1", "INVITE", "1 IN VITE", "1  ", ""} {
		wantFault(t, strings.Replace(invite(), "CSeq: 1 INVITE", "CSeq: "+v, 1), 400, "CSeq")
	}
	wantFault(t, invite("Expires: 4294967296"), 400, "Expires")
}

func TestMethodsAreTokensInTheirOwnCase(t *testing.T) {
	req := mustParse(t, strings.ReplaceAll(invite(), "INVITE", "Frobnicate"))
	if req.Method != "Frobnicate" {
		t.Errorf("method %q", req.Method)
	}
	wantFault(t, strings.Replace(invite(), "INVITE sip", "invite sip", 1), 400, "CSeq")
}

func TestARequestURIDecidesTheStatus(t *testing.T) {
	for uri, status := range map[string]int{
		"http://example.com/": 416, "mailto:a@b": 416, "sip:": 400, "sip:@h": 400, "sip:a@": 400, "sip:a@h:0": 400,
		"sip:a@h:65536": 400, "sip:a@[::1": 400, "sip:a@h?Route=x": 400, "<sip:a@h>": 400, "sip:a@h;;x": 400, "*": 400,
	} {
		wantFault(t, strings.Replace(invite(), "sip:bob@example.com", uri, 1), status, "Request-Line")
	}
	for _, uri := range []string{"tel:+358-9-1", "urn:service:sos", "SIPS:a@h", "sip:h", "sip:a:p@h;x", "sip:[::1]:5060"} {
		mustParse(t, strings.Replace(invite(), "sip:bob@example.com", uri, 1))
	}
}

func TestOtherProtocolsAreNotAnswered(t *testing.T) {
	for _, raw := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00", "", "\r\n\r\n", "INVITE sip:a@b\r\n\r\n"} {
		if m, f := Parse([]byte(raw)); m != nil || f == nil || !f.Close {
			t.Errorf("%q: %v, %v", raw, m, f)
		}
	}
}

func TestResponsesAtFaultAreDroppedAndTheConnectionStays(t *testing.T) {
	ok := strings.Replace(invite("Contact: <<", "Expires: x"), "INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 200 OK", 1)
	m, f := Parse([]byte(ok))
	if res, is := m.(*sip.Response); f != nil || !is || res.StatusCode != 200 || res.Reason != "OK" {
		t.Fatalf("%v, %v", m, f)
	}
	for _, line := range []string{"SIP/2.0 99 x", "SIP/2.0 700 x", "SIP/2.0 2000 x", "SIP/2.0 0200 x", "SIP/3.0 200 OK", "SIP/2.0"} {
		if m, f := Parse([]byte(strings.Replace(ok, "SIP/2.0 200 OK", line, 1))); m != nil || f == nil || f.Status != 0 || f.Close {
			t.Errorf("%s: %v, %v", line, m, f)
		}
	}
}

func TestTooManyHeadersAreRefused(t *testing.T) {
	var many []string
	for i := range 300 {
		many = append(many, fmt.Sprintf("X-%d: y", i))
	}
	m, f := wantFault(t, invite(many...), 400, "")
	if !f.Close || m == nil || len(m.(*sip.Request).Headers()) > maxHeaders+1 {
		t.Errorf("%v", f)
	}
	wantFault(t, invite("Route: "+strings.Repeat("<sip:a>,", 300)+"<sip:a>"), 400, "")
	if _, f := wantFault(t, invite("X: "+strings.Repeat("y", maxHeaderBlock)), 513, ""); !f.Close {
		t.Error("an overlong header block may go on")
	}
}

func TestParseKeepsNothingOfItsInput(t *testing.T) {
	raw := []byte(strings.Replace(invite("Subject: x"), "Content-Length: 0", "Content-Length: 4", 1) + "body")
	m, _ := Parse(raw)
	before := m.String()
	for i := range raw {
		raw[i] = '!'
	}
	if m.String() != before {
		t.Error("the message changed with the buffer")
	}
}
