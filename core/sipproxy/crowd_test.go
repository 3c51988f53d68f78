package sipproxy

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/location"
	"sallyport/core/push"
	"sallyport/tunnel"
)

// R20: everybody is called at once, as when an alarm goes off. Nobody in the
// crowd follows the story's script: each phone wakes by its own push, within a
// few seconds, registers, rings and refuses, and the PBX answers by itself.

// crowdSize is 10,000, but for the race detector.
const crowdSize = 10_000 / slow

// heldCall is the heap that a held call may take.
const heldCall = 16 << 10

// A crowd counts what its phones and its PBX hear.
type crowd struct {
	w *town

	mu      sync.Mutex
	invites map[string][]string // Call-IDs of what a user's phone was offered; guarded by mu
	pushed  map[string]int      // VoIP pushes, by AOR; guarded by mu
	finals  map[string][]string // status lines that a call's caller heard; guarded by mu
	told    map[string]int      // methods that phones heard; guarded by mu
}

func user(i int) string { return fmt.Sprintf("u%05d", i) }

// gathers makes a crowd of n phones that have registered a while ago, and
// sleep. They are reached through a PBX that accepts every REGISTER.
func gathers(t *testing.T, w *town, n int) *crowd {
	t.Helper()
	c := &crowd{w: w, invites: map[string][]string{}, pushed: map[string]int{}, finals: map[string][]string{}, told: map[string]int{}}
	w.pbx.answer = c.pbx
	byAOR := make(map[string]*phone, n)
	for i := range n {
		ph := c.phone(i)
		byAOR[ph.aor()] = ph
		c.remembers(ph)
	}
	pass(time.Minute)
	if all, live := w.loc.Count(); all != n || live != 0 {
		t.Fatalf("%d devices are known, %d are live; want %d and none", all, live, n)
	}
	w.pushes.onCall = func(p push.Call) { c.isPushed(byAOR[p.To]) }
	return c
}

// remembers puts a phone where its REGISTER would have put it.
func (c *crowd) remembers(ph *phone) {
	token, _ := c.w.proxy.tokenFor(ph.id(), 1)
	now := time.Now()
	b := location.Binding{
		AOR: ph.aor(), Instance: ph.urn, RegID: 1, Contact: "<" + ph.uri() + ph.push + ">", URI: ph.uri(), Token: token,
		Registered: now, Expires: now.Add(10 * time.Minute), Granted: now, GrantEnds: now.Add(24 * time.Hour),
		Transport: ph.transport, Public: public,
	}
	var tokens []location.Token
	for kind, value := range map[string]string{"voip": "aa" + ph.user, "alert": "bb" + ph.user} {
		tokens = append(tokens, location.Token{Provider: "apns", Kind: kind, App: "org.example.phone",
			Param: "ABCDE12345.org.example.phone.voip&remote", Value: value, Registered: now})
	}
	if _, err := c.w.loc.Place(b, tokens, "split"); err != nil {
		c.w.t.Fatal(err)
	}
}

func (c *crowd) phone(i int) *phone {
	ph := c.w.phone("alice", []string{"tls", "wss"}[i%2])
	ph.user, ph.callID = user(i), "reg-"+user(i)
	ph.urn = fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012x", i)
	ph.push = strings.NewReplacer("aaalice", "aa"+ph.user, "bbalice", "bb"+ph.user).Replace(ph.push)
	return ph
}

// wakes has a phone connect and register; all that comes it answers itself.
func (c *crowd) wakes(ph *phone) {
	s := newScript(c.w.t, ph.user, nil)
	var id [16]byte
	copy(id[:], fmt.Sprintf("%s-%d", ph.user, time.Now().Unix()))
	s.answer = func(m string) { c.hears(s, ph, m) }
	f, err := c.w.edge.Open(tunnel.Info{UUID: id, Service: "sip", Transport: ph.transport,
		Remote: netip.MustParseAddrPort(home), Public: public, Since: time.Now()}, clientEnd{s})
	if err != nil {
		c.w.t.Errorf("%s cannot connect: %v", ph.user, err)
		return
	}
	s.flow, ph.script = f, s
	c.mu.Lock()
	register := message(ph.register()...)
	c.mu.Unlock()
	if err := f.SendWait(context.Background(), []byte(register)); err != nil {
		c.w.t.Errorf("%s cannot register: %v", ph.user, err)
	}
}

// isPushed is what a push brings about: within one to four seconds, by the
// radio, the phone is there.
func (c *crowd) isPushed(ph *phone) {
	c.mu.Lock()
	c.pushed[ph.aor()]++
	n := c.pushed[ph.aor()]
	c.mu.Unlock()
	if n > 1 {
		return // counted, and found to be one too many
	}
	late := time.Duration(len(ph.callID)*int(ph.user[len(ph.user)-1])*7919%3000) * time.Millisecond
	time.AfterFunc(time.Second+late, func() { c.wakes(ph) })
}

// hears is a phone's end.
func (c *crowd) hears(s *script, ph *phone, m string) {
	method, _, _ := strings.Cut(m, " ")
	c.mu.Lock()
	c.told[method]++
	if method == "INVITE" {
		c.invites[ph.user] = append(c.invites[ph.user], first(m, "Call-ID"))
	}
	c.mu.Unlock()
	if method == "INVITE" {
		_ = s.flow.Send([]byte(message(reply(m, 180)...)))
		_ = s.flow.Send([]byte(message(reply(m, 486)...)))
	}
}

// pbx is the PBX's end.
func (c *crowd) pbx(m string) {
	switch {
	case strings.HasPrefix(m, "REGISTER "):
		c.say(reply(m, 200, "Contact: "+first(m, "Contact")))
	case strings.HasPrefix(m, "SIP/2.0 1"):
	case strings.HasPrefix(m, "SIP/2.0 "):
		c.mu.Lock()
		c.finals[first(m, "Call-ID")] = append(c.finals[first(m, "Call-ID")], firstLine(m))
		c.mu.Unlock()
		c.say(inviteOf(c.invite(first(m, "Call-ID")), "ACK"))
	}
}

func (c *crowd) say(lines []string) {
	if err := c.w.pbx.send(message(lines...)); err != nil {
		c.w.t.Errorf("the PBX cannot send: %v", err)
	}
}

// invite is the call to a user whose name is its Call-ID.
func (c *crowd) invite(callID string) []string {
	to, _, _ := strings.Cut(callID, ".")
	return []string{
		"INVITE sip:" + to + "@example.com SIP/2.0",
		"Via: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bK" + callID,
		"Max-Forwards: 69", "From: <sip:carol@example.com>;tag=carol", "To: <sip:" + to + "@example.com>",
		"Call-ID: " + callID, "CSeq: 1 INVITE", "Contact: <sip:carol@10.0.0.33:5060>",
	}
}

func TestR20_TenThousandDevicesWakeAtOnce(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		const n = crowdSize
		c := gathers(t, w, n)
		idle, before := runtime.NumGoroutine(), heap()
		w.pushes.delay = 50 * time.Millisecond
		start := time.Now()
		for i := range n {
			c.say(c.invite(user(i) + ".1"))
		}
		synctest.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v to hold every call", took)
		}
		if each := (runtime.NumGoroutine() - idle) / n; each > 2 { // the leg, and a push that is under way
			t.Errorf("%d goroutines for each held call", each)
		}
		if each := (heap() - before) / n; each > heldCall {
			t.Errorf("%d bytes for each held call, want %d at most", each, heldCall)
		}
		pass(10 * time.Second)
		c.mu.Lock()
		for i := range n {
			u, id := user(i), user(i)+".1"
			if got := c.pushed["sip:"+u+"@example.com"]; got != 1 {
				t.Errorf("%s was pushed %d times", u, got)
			}
			if got := strings.Join(c.invites[u], " "); got != id {
				t.Errorf("%s was offered %q, want %q", u, got, id)
			}
			if got := c.finals[id]; len(got) != 1 || !strings.HasPrefix(got[0], "SIP/2.0 486") {
				t.Errorf("the caller of %s heard %q", u, got)
			}
			if t.Failed() {
				break
			}
		}
		if len(c.finals) != n || c.told["CANCEL"] != 0 || c.told["INVITE"] != n || c.told["ACK"] != n {
			t.Errorf("%d calls ended; phones heard %v", len(c.finals), c.told)
		}
		c.mu.Unlock()
		w.pushed(n)
		if d, live := w.loc.Count(); d != n || live != n {
			t.Errorf("%d devices, %d live; want %d of each", d, live, n)
		}
	})
}

// What one user hears when called again and again: a call that is over is no
// news to a phone that comes for the next.
func TestNoGhostWhenAUserIsWokenAgainWithin5s(t *testing.T) {
	forEachCrew(t, comesTooLate, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		for i := range 5 {
			name := fmt.Sprint("call-", i)
			c := w.calls(name)
			w.pushed((i + 1) * len(phones))
			for _, ph := range phones {
				ph.wakes()
				inv := ph.rings(name)
				c.hears("SIP/2.0 180")
				ph.refuses(inv, 486)
				pass(time.Second)
				ph.silence() // one INVITE, of this call alone
			}
			c.ends(486)
			for _, ph := range phones {
				ph.sleeps()
			}
			pass(time.Second)
		}
		w.pushed(5 * len(phones))
	})
}

// And when each caller hangs up while the phone is on its way: the phone is
// shown the end of what it was pushed for, once, and nothing else.
func TestNoGhostWhenCallersHangUpOneAfterTheOther(t *testing.T) {
	forEachCrew(t, hangsUpTooLate, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		for i := range 5 {
			name := fmt.Sprint("call-", i)
			c := w.calls(name)
			c.cancels()
			c.ends(487)
			for _, ph := range phones {
				ph.wakes()
				ph.hangsUp(ph.rings(name))
				ph.silence()
				ph.sleeps()
			}
			pass(time.Second)
		}
		w.pushed(5 * len(phones))
	})
}
