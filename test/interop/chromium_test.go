package interop

import (
	"testing"
	"time"
)

// browser is a system with a Chromium and the page it opens.
func browser(t *testing.T) (s *System, c *Chromium, url string) {
	t.Helper()
	needAny(t, "chromium-headless-shell", "chromium")
	s = StartSystem(t)
	url, trusted := s.servePage()
	return s, StartChromium(t, trusted), url
}

func TestTwoPagesInChromiumCallEachOtherAndHearSound(t *testing.T) {
	t.Parallel()
	s, c, url := browser(t)
	ctx := within(t, 28*time.Second)
	alice := c.Open(url, s.WebPhone("alice", nil))
	alice.Expect(ctx, "registered")
	bob := c.Open(url, s.WebPhone("bob", nil))
	bob.Expect(ctx, "registered")

	for _, call := range []struct {
		from, to *WebPage
		uri      string
		over     *WebPage // who hangs up
	}{
		{alice, bob, "sip:bob@example.com", alice},
		{bob, alice, "sip:alice@example.com", alice},
	} {
		call.from.Call(call.uri)
		call.to.Expect(ctx, "incoming")
		call.from.Expect(ctx, "progress")
		call.to.Tell("answer")
		for _, page := range []*WebPage{call.to, call.from} {
			page.Expect(ctx, "confirmed")
			page.Tell("hear")
			page.Expect(ctx, "heard")
		}
		call.over.Tell("hangup")
		alice.Expect(ctx, "ended")
		bob.Expect(ctx, "ended")
	}
}

func TestAPageInChromiumSleepsIsPushedComesBackAndRings(t *testing.T) {
	t.Parallel()
	s, c, url := browser(t)
	ctx := within(t, 29*time.Second)
	alice := c.Open(url, s.WebPhone("alice", nil))
	alice.Expect(ctx, "registered")
	cfg := s.WebPhone("bob", s.WebPush())
	cfg.Instance = uuid()
	bob := c.Open(url, cfg)
	bob.Expect(ctx, "registered")
	for i, nap := range []struct {
		name, state  string
		sleep, awake func()
	}{
		{"hidden", "silent", func() {
			bob.Minimize()
			bob.Expect(ctx, "hidden")
		}, func() { bob.Show() }},
		// A frozen page's browser still holds its socket, and answers pings on it.
		{"frozen", "silent", func() {
			bob.Minimize()
			bob.Expect(ctx, "hidden")
			s.until("sip:bob@example.com", "silent")
			bob.Freeze()
		}, func() {
			bob.Thaw()
			bob.Show()
		}},
		{"closed", "suspended", func() { bob.CloseTab() }, func() { bob = c.Open(url, cfg) }},
	} {
		nap.sleep()
		s.until("sip:bob@example.com", nap.state)
		alice.Call("sip:bob@example.com")
		s.Pushed(i + 1)
		nap.awake()
		bob.Expect(ctx, "incoming")
		bob.Tell("answer")
		bob.Expect(ctx, "confirmed")
		alice.Expect(ctx, "confirmed")
		alice.Tell("hangup")
		bob.Expect(ctx, "ended")
		if n := len(s.Clients("sip:bob@example.com")); n != 1 {
			t.Errorf("%s: the core has %d devices of bob, want one", nap.name, n)
		}
	}
}
