package sipmsg

import (
	"slices"
	"testing"
)

// FuzzURI: a URI is refused, or written back as it came; what is cut off it
// leaves a URI; and its AOR is one that names itself.
func FuzzURI(f *testing.F) {
	for _, s := range []string{
		"sip:a@h", "sips:a:pw@h:5061;transport=tls;lr?X=y", "sip:a@[2001:db8:::192.0.2.1]:5060;x", "tel:+1-23;phone-context=x",
		"sip:%61%00@EXAMPLE.com;pn-prid=x;pn-provider=apns;app-id=y", "urn:service:sos", "sip:a@[::ffff:192.0.2.1]",
		"sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || again.String() != u.String() {
			t.Fatalf("%q becomes %q, %q, %v", s, u.String(), again.String(), err)
		}
		bare := u.WithoutPush()
		if slices.ContainsFunc(bare.Params, func(p Param) bool { return isPushParam(p.Name) }) {
			t.Fatalf("%q keeps push parameters: %q", s, bare.String())
		}
		if _, err := ParseURI(bare.String()); err != nil {
			t.Fatalf("%q without push parameters: %v", s, err)
		}
		aor := u.AOR()
		of, err := ParseURI(aor)
		if err != nil || of.AOR() != aor {
			t.Fatalf("%q has the AOR %q, which has %q, %v", s, aor, of.AOR(), err)
		}
	})
}
