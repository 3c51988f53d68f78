package core

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/pelletier/go-toml/v2"

	"sallyport/core/push"
	"sallyport/core/sipmsg"
)

func pushPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/push.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each config in docs/push.md is valid in a core.toml.
func TestTheConfigsInTheDocumentOfPushesAreValid(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(pushPage(t), -1)
	if len(blocks) < 4 {
		t.Fatalf("%d configs", len(blocks))
	}
	c, whole := good(), ""
	for _, b := range blocks {
		whole += b[1]
	}
	if err := toml.NewDecoder(strings.NewReader(whole)).DisallowUnknownFields().Decode(&c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	rules := c.Push.rules()
	want := push.QuietRule{
		AOR: "*", From: 22 * time.Hour, To: 7 * time.Hour, Notes: push.MannerHold, Zone: rules[0].Zone, VIP: c.Push.Quiet[0].VIP,
		Days: []time.Weekday{time.Sunday, time.Monday, time.Tuesday, time.Wednesday, time.Thursday},
	}
	if r := rules[0]; r.Zone.String() != "Europe/Berlin" || r.AOR != want.AOR || r.From != want.From || r.To != want.To ||
		r.Notes != want.Notes || r.Ring || !slices.Equal(r.Days, want.Days) || len(r.VIP) != 2 {
		t.Errorf("rule %+v", r)
	}
}

// Each REGISTER in docs/push.md is a SIP message whose contact says what the
// document says of it.
func TestTheRegistersInTheDocumentOfPushesAreUnderstood(t *testing.T) {
	blocks := regexp.MustCompile("(?s)<!-- register: (.*?) -->\n```sip\n(.*?)```").FindAllStringSubmatch(pushPage(t), -1)
	if len(blocks) < 4 {
		t.Fatalf("%d REGISTERs", len(blocks))
	}
	for _, b := range blocks {
		want := strings.Fields(b[1]) // provider, kinds, class
		m, fault := sipmsg.Parse([]byte(strings.ReplaceAll(b[2], "\n", "\r\n")))
		if fault != nil {
			t.Fatalf("%s: %v", b[1], fault)
		}
		req, ok := m.(*sip.Request)
		if !ok || req.Method != sip.REGISTER {
			t.Fatalf("%s: no REGISTER", b[1])
		}
		contacts, err := sipmsg.Contacts(req)
		if err != nil || len(contacts) != 1 {
			t.Fatalf("%s: %v", b[1], err)
		}
		p := contacts[0].Push()
		got := []string{p.Provider}
		for _, token := range p.Tokens {
			got = append(got, token.Kind)
		}
		if p.Class != "" {
			got = append(got, p.Class)
		}
		if !slices.Equal(got, want) || p.BadKey {
			t.Errorf("%s: understood as %v, bad key %v", b[1], got, p.BadKey)
		}
		if keyed := strings.Contains(b[2], "pn-key"); keyed != (p.Key != "" && p.Auth != "") {
			t.Errorf("%s: the key is not understood", b[1])
		}
	}
}
