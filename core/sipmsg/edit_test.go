package sipmsg

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

func TestOwnAnswersAgreeOnTheToTag(t *testing.T) {
	req := mustParse(t, invite("Record-Route: <sip:p;lr>;x=1", "Via: SIP/2.0/UDP b", "Timestamp: 3"))
	ringing, ok := Response(req, 180, ""), Response(mustParse(t, req.String()), 200, "")
	tag, _ := ringing.To().Params.Get("tag")
	if again, _ := ok.To().Params.Get("tag"); tag == "" || tag != again {
		t.Errorf("tags %q and %q", tag, again)
	}
	other := mustParse(t, strings.Replace(invite(), "z9hG4bK1", "z9hG4bK2", 1))
	if different, _ := Response(other, 200, "").To().Params.Get("tag"); different == tag {
		t.Error("another transaction has the same tag")
	}
	if n := len(ok.GetHeaders("Via")); n != 2 {
		t.Errorf("%d Vias", n)
	}
	if got := Values(ok, "Record-Route"); !slices.Equal(got, []string{"<sip:p;lr>;x=1"}) {
		t.Errorf("Record-Route %q", got)
	}
	if ok.Reason != "OK" || ringing.Reason != "Ringing" || Get(ok, "Content-Length") != "0" {
		t.Errorf("%s", ok)
	}
}

func TestATryingHasNoTagAndAnErrorNoRecordRoute(t *testing.T) {
	req := mustParse(t, invite("Record-Route: <sip:p;lr>", "Timestamp: 3"))
	trying := Response(req, 100, "")
	if trying.To().Params.Has("tag") || len(trying.GetHeaders("Record-Route")) != 0 || Get(trying, "Timestamp") != "3" {
		t.Errorf("%s", trying)
	}
	if res := Response(req, 480, "Gone Fishing"); len(res.GetHeaders("Record-Route")) != 0 || res.Reason != "Gone Fishing" {
		t.Errorf("%s", res)
	}
	in := mustParse(t, strings.Replace(invite(), "To: <sip:bob@example.com>", "To: sip:bob@example.com;tag=mine", 1))
	if got := Get(Response(in, 200, ""), "To"); got != "sip:bob@example.com;tag=mine" {
		t.Errorf("To %s", got)
	}
	bare := mustParse(t, strings.Replace(invite(), "To: <sip:bob@example.com>", `To: sip:bob@example.com`, 1))
	res := Response(bare, 200, "")
	if tag, _ := res.To().Params.Get("tag"); tag != Tag(bare) {
		t.Errorf("To %s", Get(res, "To"))
	}
}

func TestWhatIsWrittenIsWhatSipgoWrites(t *testing.T) {
	texts := []string{
		invite(), string(bigInvite()), register(linphoneContact),
		invite("Route: <sip:[2001:db8::1]:5061;lr>", "X-Odd: ;;", "Via: SIP/2.0/UDP [2001:db8::2]"),
		strings.Replace(invite(), "INVITE sip:bob@example.com", "INVITE sips:bob:pw@[2001:db8::9]:5061;a;b=c", 1),
		strings.Replace(invite(), "INVITE sip:bob@example.com", "INVITE tel:+1-201-555-0123;phone-context=x", 1),
		strings.Replace(invite(), "From: <sip:alice@example.com>;tag=a1", `From: "A \" B" <sip:alice@example.com;x=y>;q="a b";tag=1`, 1),
	}
	files, err := filepath.Glob("testdata/*/*.dat")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if m, _ := Parse(raw); m != nil {
			if got, want := string(Bytes(m)), m.String(); got != want {
				t.Errorf("%s: wrote\n%q, sipgo\n%q", file, got, want)
			}
		}
	}
	for _, text := range texts {
		req := mustParse(t, text)
		for _, m := range []sip.Message{req, Response(req, 100, ""), Response(req, 200, "")} {
			if got, want := string(Bytes(m)), m.String(); got != want {
				t.Errorf("wrote\n%q, sipgo\n%q", got, want)
			}
		}
	}
}

func TestHeadersAreFoundInAnyCase(t *testing.T) {
	req := mustParse(t, invite("X-Thing: 1", "x-thing: 2"))
	if h := Find(req, "x-THING"); h == nil || h.Value() != "1" {
		t.Errorf("found %v", h)
	}
	if all := All(req, "X-Thing"); len(all) != 2 || all[1].Value() != "2" {
		t.Errorf("found %v", all)
	}
	if h := Find(req, "X-Thin"); h != nil || All(req, "X-Thing2") != nil {
		t.Errorf("found %v", h)
	}
	if n := testing.AllocsPerRun(10, func() { Find(req, "X-Other"); Find(req, "Call-ID") }); n != 0 {
		t.Errorf("%v allocations to look for a header", n)
	}
}

func TestRemoveForgetsWhatSipgoRemembers(t *testing.T) {
	req := mustParse(t, invite("Contact: <sip:old@h>;a=1", "Contact: <sip:older@h>"))
	if req.Contact().Address.User != "old" {
		t.Fatal(req.Contact())
	}
	clone := req.Clone()
	Set(req, "Contact", "<sip:new@h>")
	if got := Values(req, "Contact"); !slices.Equal(got, []string{"<sip:new@h>"}) || req.Contact().Address.User != "new" {
		t.Errorf("got %q, Contact() %v", got, req.Contact())
	}
	if got := Values(clone, "Contact"); len(got) != 2 {
		t.Errorf("the clone changed too: %q", got)
	}
	if n := Remove(req, "nothing", "VIA"); n != 1 || req.Via() != nil {
		t.Errorf("removed %d, Via %v", n, req.Via())
	}
}

func TestMaxForwardsOfACloneIsItsOwn(t *testing.T) {
	req := mustParse(t, invite())
	clone := req.Clone()
	SetMaxForwards(clone, 69)
	if req.MaxForwards().Val() != 70 || clone.MaxForwards().Val() != 69 {
		t.Errorf("%d and %d", req.MaxForwards().Val(), clone.MaxForwards().Val())
	}
	Remove(req, "Max-Forwards")
	SetMaxForwards(req, 70)
	if Get(req, "Max-Forwards") != "70" {
		t.Errorf("%s", req)
	}
}

func TestReceivedIsWhereTheRequestCameFrom(t *testing.T) {
	for name, tt := range map[string]struct{ via, want string }{
		"a name":              {"SIP/2.0/TLS client.invalid;branch=z9hG4bK1", "SIP/2.0/TLS client.invalid;branch=z9hG4bK1;received=192.0.2.1"},
		"rport":               {"SIP/2.0/UDP 192.0.2.1:5060;rport;branch=x", "SIP/2.0/UDP 192.0.2.1:5060;rport=99;branch=x;received=192.0.2.1"},
		"the same address":    {"SIP/2.0/UDP 192.0.2.1:5060;branch=x", "SIP/2.0/UDP 192.0.2.1:5060;branch=x"},
		"what a client lies":  {"SIP/2.0/UDP 10.0.0.1;received=10.9.9.9;branch=x", "SIP/2.0/UDP 10.0.0.1;branch=x;received=192.0.2.1"},
		"a lie about itself":  {"SIP/2.0/UDP 192.0.2.1;Received=10.9.9.9;branch=x", "SIP/2.0/UDP 192.0.2.1;branch=x"},
		"another IPv6":        {"SIP/2.0/UDP [2001:db8::1]:5;branch=x", "SIP/2.0/UDP [2001:db8::1]:5;branch=x;received=192.0.2.1"},
		"quoted, white space": {`SIP/2.0/UDP 192.0.2.1 ; x = "a b"`, `SIP/2.0/UDP 192.0.2.1;x="a b"`},
	} {
		t.Run(name, func(t *testing.T) {
			req := mustParse(t, strings.Replace(invite(), "SIP/2.0/TLS client.invalid;branch=z9hG4bK1", tt.via, 1))
			SetReceived(req, netip.MustParseAddrPort("[::ffff:192.0.2.1]:99"))
			if got := Get(req, "Via"); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestTokensOfAllHeadersOfAName(t *testing.T) {
	req := mustParse(t, invite("Supported: path, Outbound", "k: gruu", "Require:"))
	if got := Tokens(req, "Supported"); !slices.Equal(got, []string{"path", "Outbound", "gruu"}) {
		t.Errorf("got %q", got)
	}
	if !HasToken(req, "supported", "OUTBOUND") || HasToken(req, "Supported", "100rel") || HasToken(req, "Require", "") {
		t.Error("HasToken")
	}
}

func TestRoutesKeepWhatSipgoLoses(t *testing.T) {
	rs, f := Routes(mustParse(t, invite(`Record-Route: "p" <sip:t@p;lr>;x=1`)), "Record-Route")
	if f != nil || len(rs) != 1 || rs[0].URI.User != "t" || rs[0].Display != "p" || !rs[0].Params.Has("x") {
		t.Errorf("%+v, %v", rs, f)
	}
}

func TestAddressesOfOneHeaderAreTakenApart(t *testing.T) {
	req := mustParse(t, invite(`P-Associated-URI: "a, b" <sip:a@h>, <tel:+1>`, "P-Associated-URI: sip:c@h"))
	rs, f := Routes(req, "P-Associated-URI")
	if f != nil || len(rs) != 3 || rs[0].Display != "a, b" || rs[1].URI.AOR() != "tel:+1" || rs[2].URI.AOR() != "sip:c@h" {
		t.Errorf("%+v, %v", rs, f)
	}
	if _, f := Routes(mustParse(t, invite("Path-X: <sip:a>,<<")), "Path-X"); f == nil || f.Header != "Path-X" {
		t.Errorf("%v", f)
	}
}

func TestEveryStatusHasAPhrase(t *testing.T) {
	for status, want := range map[int]string{480: "Temporarily Unavailable", 555: "Push Notification Service Not Supported", 299: "Success", 799: "Unknown", 0: "Unknown"} {
		if got := Reason(status); got != want {
			t.Errorf("%d: %s", status, got)
		}
	}
}

func TestAnAddressOfRecordIsTheSameTypedOrAsText(t *testing.T) {
	for _, value := range []string{
		"<sip:Alice@Example.COM>;tag=1", `"A B" <sips:alice@example.com:5061;x=y>`, "sip:al%69ce@example.com", "<sip:example.com>",
		"<sip:alice@[2001:db8::1]>", "<tel:+1201;phone-context=x>", "sip:a%40b@example.com", "<sip://alice@example.com>", "Alice <sip:alice@example.com>",
	} {
		n, err := ParseNameAddr(value)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"From", "To", "P-Preferred-Identity"} {
			req := mustParse(t, strings.Replace(invite("P-Preferred-Identity: "+value), "To: <sip:bob@example.com>", "To: "+value, 1))
			if name == "From" {
				req = mustParse(t, strings.Replace(invite(), "From: <sip:alice@example.com>;tag=a1", "From: "+strings.TrimSuffix(value, ";tag=1")+";tag=1", 1))
			}
			if got, err := AOROf(Find(req, name)); err != nil || got != n.URI.AOR() {
				t.Errorf("%s: %s is %q, %v, want %q", name, value, got, err, n.URI.AOR())
			}
		}
	}
	if _, err := AOROf(sip.NewHeader("From", "<sip:")); err == nil {
		t.Error("a broken address has an AOR")
	}
}
