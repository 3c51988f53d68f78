package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sallyport/core/push/pushtest"
	"sallyport/test/phone"
)

// page is a phone in a browser, with a subscription to the browser maker's
// push service.
type page struct {
	*phone.Phone
	s   *scene
	sub pushtest.Subscription
	key bool // it hands its keys over too
}

// page makes one of bob's, which asks what it may subscribe with, and lets it
// sleep.
func (s *scene) page(key bool) *page {
	s.t.Helper()
	p := &page{Phone: s.new("bob"), s: s, key: key}
	ok(s.t, p.Connect(s.ctx))
	answer := must[*phone.Message](s.t)(p.Register(s.ctx, phone.Registration{Push: phone.Raw(";pn-provider=webpush"), RegID: 1}))
	p.sub = must[pushtest.Subscription](s.t)(s.WebPush.NewSubscription(vapidOf(answer)))
	must[*phone.Message](s.t)(p.Register(s.ctx, p.registration()))
	s.sleeps(p.Phone)
	return p
}

// vapidOf is the key that an answer offers to subscribe with (RFC 8599 §14).
func vapidOf(answer *phone.Message) string {
	for _, caps := range answer.Values("Feature-Caps") {
		if _, key, found := strings.Cut(caps, `+sip.vapid="`); found && strings.Contains(caps, `+sip.pns="webpush"`) {
			key, _, _ = strings.Cut(key, `"`)
			return key
		}
	}
	return "none is offered"
}

// registers is what the page does when it opens and in its service worker.
func (p *page) registers() {
	p.s.t.Helper()
	p.s.registersAs(p.Phone, p.registration())
}

func (p *page) registration() phone.Registration {
	key, auth := p.sub.P256dh, p.sub.Auth
	if !p.key {
		key, auth = "", ""
	}
	return phone.Registration{Push: phone.WebPush(p.sub.Endpoint, key, auth), RegID: 1}
}

// A webPush is what the service worker gets.
type webPush struct {
	Channel  string `json:"channel"`
	Event    string `json:"event"`
	CallID   string `json:"call_id"`
	FromName string `json:"from_name"`
	FromURI  string `json:"from_uri"`
}

// pushed waits until n pushes were taken, and returns the last and what the
// service worker reads in it.
func (p *page) pushed(n int) (m pushtest.WebPushMessage, read webPush) {
	p.s.t.Helper()
	p.s.until("a push", func() bool { return len(p.s.WebPush.Accepted()) >= n })
	m = p.s.WebPush.Accepted()[n-1]
	if !strings.HasSuffix(p.sub.Endpoint, m.Endpoint[strings.LastIndex(m.Endpoint, "/"):]) || m.Subject != "mailto:ops@"+Domain {
		p.s.t.Errorf("pushed %s", m)
	}
	switch {
	case p.key:
		ok(p.s.t, json.Unmarshal(m.Plain, &read))
		if strings.Contains(string(m.Body), "alice") {
			p.s.t.Errorf("the push service reads who calls: %q", m.Body)
		}
	case len(m.Body) != 0:
		p.s.t.Errorf("a page without a key was sent %d bytes", len(m.Body))
	}
	return m, read
}

// nothingElse says that there were n pushes, none of them against the rules,
// and none by others.
func (p *page) nothingElse(n int) {
	p.s.t.Helper()
	p.s.onlyPushes(0)
	if all := p.s.WebPush.Pushes(); len(all) != n {
		p.s.t.Errorf("%d pushes, want %d: %v", len(all), n, all)
	}
	for _, v := range p.s.WebPush.Violations() {
		p.s.t.Errorf("rule of Web Push broken: %s", v)
	}
}

func TestB12APageIsWokenByWebPushAndRings(t *testing.T) {
	for name, key := range map[string]bool{"with a key": true, "without a key": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, Config{WebPush: true}, func(s *scene) {
				alice := s.new("alice", func(c *phone.Config) { c.DisplayName = "Alice Example" })
				s.registers(alice, "alice")
				bob := s.page(key)
				call := s.call(alice, "bob")
				m, read := bob.pushed(1)
				if m.Urgency != "high" || m.TTL < time.Second || m.TTL > 10*time.Second || m.Topic != "" {
					s.t.Errorf("pushed %s", m)
				}
				want := webPush{Channel: "voip", Event: "call", CallID: call.CallID(), FromName: "Alice Example", FromURI: s.uri("alice")}
				if key && read != want {
					s.t.Errorf("the page reads %+v, want %+v", read, want)
				}
				bob.registers()
				theirs := s.talks(bob.Phone, call)
				ok(s.t, call.Bye(s.ctx))
				ok(s.t, theirs.WaitBye(s.ctx))
				s.heard(bob.Phone, "INVITE", 1)
				bob.nothingElse(1)
			})
		})
	}
}

func TestB16APageThatDoesNotComeBackHasMissedTheCall(t *testing.T) {
	short := window(time.Second)
	short.WebPush = true
	at(t, Domain, short, func(s *scene) {
		alice, bob := s.caller("alice"), s.page(true)
		call := s.call(alice, "bob")
		s.ends(call, 480)
		if m, read := bob.pushed(1); read.Event != "call" || m.TTL > 10*time.Second {
			s.t.Errorf("pushed %s: %+v", m, read)
		}
		if m, read := bob.pushed(2); read.Channel != "message" || read.Event != "missed" || read.CallID != call.CallID() || len(m.Topic) != 32 || m.TTL < time.Hour {
			s.t.Errorf("pushed %s: %+v", m, read)
		}
		bob.nothingElse(2)
	})
}

// B19 for Web Push: a subscription that has ended is told at once and not
// pushed to again, until the page brings another.
func TestB19ASubscriptionThatEndedIsToldAtOnce(t *testing.T) {
	at(t, Domain, Config{WebPush: true}, func(s *scene) {
		alice, bob := s.caller("alice"), s.page(true)
		s.WebPush.Unsubscribe(bob.sub.Endpoint, 410)
		if took := s.ends(s.call(alice, "bob"), 480); took > outcomeWithin+slack {
			s.t.Errorf("480 after %v, want %v at most", took, outcomeWithin)
		}
		s.ends(s.call(alice, "bob"), 480)
		if n := len(s.WebPush.Pushes()); n != 1 {
			s.t.Errorf("the subscription was tried %d times, want once", n)
		}
		bob.sub = must[pushtest.Subscription](s.t)(s.WebPush.NewSubscription(s.VAPID))
		bob.registers()
		s.sleeps(bob.Phone)
		call := s.call(alice, "bob")
		bob.pushed(1)
		bob.registers()
		s.talks(bob.Phone, call)
		bob.nothingElse(2)
	})
}

// P31 from the outside: a client whose token leads inside is not called there,
// and the caller is told at once.
func TestP31APageThatNamesAnAddressInsideIsNotPushed(t *testing.T) {
	at(t, Domain, Config{WebPush: true}, func(s *scene) {
		alice, bob := s.caller("alice"), s.new("bob")
		for _, url := range []string{"https://169.254.169.254/latest/meta-data", "https://" + s.Admin + "/api/v1/push/test", "http://" + s.Admin + "/"} {
			s.registersAs(bob, phone.Registration{Push: phone.WebPush(url, "", ""), RegID: 1})
			s.sleeps(bob)
			if took := s.ends(s.call(alice, "bob"), 480); took > outcomeWithin+slack {
				s.t.Errorf("%s: 480 after %v", url, took)
			}
		}
		s.onlyPushes(0)
		if n := len(s.WebPush.Pushes()); n != 0 {
			s.t.Errorf("%d pushes", n)
		}
	})
}
