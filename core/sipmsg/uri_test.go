package sipmsg

import "testing"

func mustURI(t testing.TB, s string) URI {
	t.Helper()
	u, err := ParseURI(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return u
}

func TestURIsAreWrittenBackAsTheyCame(t *testing.T) {
	for _, s := range []string{
		"sip:a@h", "sip:h", "sips:a:pw@h:5061;transport=tls;lr?X=y&Z=1", "sip:user;par=u%40example.net@example.com",
		"sip:+1-202;isub=3@gw;user=phone", "sip:a@[2001:db8::1]:5060;x", "tel:+1-23;phone-context=x", "sip:a?b@h;c=",
		"sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
	} {
		if got := mustURI(t, s).String(); got != s {
			t.Errorf("%s becomes %s", s, got)
		}
	}
}

func TestMalformedURIsAreRefused(t *testing.T) {
	for _, s := range []string{
		"", "sip", "sip:", ":a@h", "sip:@h", "sip:a@", "sip:a@h:", "sip:a@h:x", "sip:a@h:99999", "sip:a@h x", "sip:a@h;=x",
		"sip:a@[::g]", "sip:a@[::1]x", "sip:a@h;a=\"q\"", "sip:a@h\r\n", "sip:a@h>", "sip:%zz@h", "tel:", "1a:b", "sip:a@h/x", "sip:a@b@c",
	} {
		if u, err := ParseURI(s); err == nil {
			t.Errorf("%q accepted as %+v", s, u)
		}
	}
}

func TestAORIsUserAndHostAlone(t *testing.T) {
	for s, want := range map[string]string{
		"sip:Alice@Example.COM:5061;transport=tls?a=b": "sip:Alice@example.com",
		"sips:alice:pw@example.com":                    "sip:alice@example.com",
		"sip:%61lice@example.com":                      "sip:alice@example.com",
		"sip:a%40b%2f@h":                               "sip:a%40b/@h",
		"sip:EXAMPLE.com":                              "sip:example.com",
		"tel:+358-9;x=y":                               "tel:+358-9",
	} {
		if got := mustURI(t, s).AOR(); got != want {
			t.Errorf("%s: %s, want %s", s, got, want)
		}
	}
}

// The pairs are those of RFC 3261 §19.1.4.
func TestRFC3261_19_1_4_EquivalentURIs(t *testing.T) {
	for _, p := range [][2]string{
		{"sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;security=on"},
		{"sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"},
		{"sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com", "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com"},
		{"sip:alice@atlanta.com?subject=project%20x&priority=urgent", "sip:alice@atlanta.com?priority=urgent&subject=project%20x"},
	} {
		if a, b := mustURI(t, p[0]), mustURI(t, p[1]); !a.Equal(b) || !b.Equal(a) {
			t.Errorf("%s and %s differ", a, b)
		}
	}
	for _, p := range [][2]string{
		{"SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"},
		{"sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"},
		{"sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"},
		{"sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"},
		{"sip:a@h", "sips:a@h"},
		{"sip:a@h;maddr=x", "sip:a@h"},
		{"tel:+1", "tel:+2"},
	} {
		if a, b := mustURI(t, p[0]), mustURI(t, p[1]); a.Equal(b) || b.Equal(a) {
			t.Errorf("%s and %s are the same", a, b)
		}
	}
}

func TestWithoutTakesParametersInAnyCaseAndLeavesTheOriginal(t *testing.T) {
	u := mustURI(t, "sip:a@h;Transport=tls;x=1;LR")
	if got := u.Without("transport", "lr").String(); got != "sip:a@h;x=1" {
		t.Errorf("got %s", got)
	}
	if u.String() != "sip:a@h;Transport=tls;x=1;LR" {
		t.Errorf("the original became %s", u)
	}
}
