package interop

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/test/phone"
	"sallyport/test/process"
)

// Presence of phones that sleep, behind a Kamailio that is the presence server.

// watcher is a colleague inside who has subscribed to somebody's presence.
type watcher struct {
	conn net.PacketConn
	done chan struct{}

	mu   sync.Mutex
	seen []string // bodies of NOTIFYs, the newest last; guarded by mu
}

// watch subscribes at the PBX to a user's presence until t ends.
func watch(t *testing.T, k *Kamailio, user string) *watcher {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	pbx, err := net.ResolveUDPAddr("udp", k.Addr)
	must(t, err)
	w := &watcher{conn: c, done: make(chan struct{})}
	go w.read()
	t.Cleanup(func() {
		c.Close()
		<-w.done
	})
	_, err = c.WriteTo([]byte(strings.Join([]string{
		"SUBSCRIBE sip:" + user + "@" + k.Domain + " SIP/2.0", "Via: SIP/2.0/UDP " + c.LocalAddr().String() + ";rport;branch=z9hG4bKw" + user,
		"Max-Forwards: 70", "From: <sip:watcher@inside.invalid>;tag=w", "To: <sip:" + user + "@" + k.Domain + ">", "Call-ID: w-" + user + c.LocalAddr().String(),
		"CSeq: 1 SUBSCRIBE", "Contact: <sip:watcher@" + c.LocalAddr().String() + ">", "Event: presence", "Accept: application/pidf+xml", "Expires: 300", "Content-Length: 0", "", "",
	}, "\r\n")), pbx)
	must(t, err)
	return w
}

func (w *watcher) read() {
	defer close(w.done)
	buf := make([]byte, 64<<10)
	for {
		n, from, err := w.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		head, body, _ := strings.Cut(string(buf[:n]), "\r\n\r\n")
		if !strings.HasPrefix(head, "NOTIFY ") {
			continue
		}
		answer := []string{"SIP/2.0 200 OK"}
		for _, l := range strings.Split(head, "\r\n") {
			name, _, _ := strings.Cut(l, ":")
			if slices.Contains([]string{"Via", "From", "To", "Call-ID", "CSeq"}, name) {
				answer = append(answer, l)
			}
		}
		w.mu.Lock()
		w.seen = append(w.seen, body)
		w.mu.Unlock()
		_, _ = w.conn.WriteTo([]byte(strings.Join(append(answer, "Content-Length: 0", "", ""), "\r\n")), from)
	}
}

// all is what the watcher has seen so far.
func (w *watcher) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

// until waits until what the watcher saw last is as wanted.
func (w *watcher) until(t *testing.T, what string, within time.Duration, is func(doc string) bool) {
	t.Helper()
	if err := process.Poll(within, func() error {
		all := w.all()
		if len(all) == 0 || !is(all[len(all)-1]) {
			return fmt.Errorf("the watcher has not seen %s, but %q", what, all)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func away(doc string) bool {
	return strings.Contains(doc, "<rpid:away") && strings.Contains(doc, "<basic>open</basic>") && strings.Count(doc, "<tuple") == 1
}

// publish is a PUBLISH of a phone's own document, or a refresh, and returns the
// entity-tag.
func publish(t *testing.T, ctx context.Context, p *phone.Phone, tag, doc string, expires int) string {
	t.Helper()
	req := p.Request("PUBLISH", p.AOR())
	req.Add("Event", "presence")
	req.Add("Expires", fmt.Sprint(expires))
	if tag != "" {
		req.Add("SIP-If-Match", tag)
	}
	if doc != "" {
		req.Add("Content-Type", "application/pidf+xml")
		req.Body = []byte(doc)
	}
	res, err := p.Do(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	return res.Get("SIP-ETag")
}

// documentOf is written as Kamailio writes what it passes on.
func documentOf(p *phone.Phone) string {
	return `<?xml version="1.0"?>` + "\n" + `<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="` + p.AOR() + `">
  <tuple id="t1">
    <status>
      <basic>open</basic>
    </status>
    <contact>` + p.AOR() + `</contact>
  </tuple>
</presence>
`
}

func TestTSM6_KamailioShowsAwayAndThenTheOwnDocument(t *testing.T) {
	t.Parallel()
	s := StartSystemWithPresence(t, "[im]\naway_delay = \"1s\"\n")
	ctx := within(t, 60*time.Second)
	alice, push := s.Phone("alice", phone.TLS), s.Push()
	online(t, ctx, alice, push)
	doc := documentOf(alice)
	tag := publish(t, ctx, alice, "", doc, 600)
	w := watch(t, s.PBX, "alice")
	own := func(got string) bool { return got == doc }
	w.until(t, "her own document", 15*time.Second, own)

	must(t, alice.Inactive(ctx)) // the client says so
	w.until(t, "away", 15*time.Second, away)
	tag = publish(t, ctx, alice, tag, "", 600)
	must(t, alice.Active(ctx))
	w.until(t, "her own document again", 15*time.Second, own)

	alice.Sleep() // or the flow ends
	w.until(t, "away", 15*time.Second, away)
	s.Core.Kill()
	s.StartCore()
	online(t, ctx, alice, push)
	w.until(t, "her own document after a restart of the core", 15*time.Second, own)
	tag = publish(t, ctx, alice, tag, "", 600) // no 412
	publish(t, ctx, alice, tag, "", 0)
	w.until(t, "nothing", 15*time.Second, func(got string) bool { return !strings.Contains(got, "open") })
	for _, got := range w.all() {
		if strings.Contains(got, "open") && got != doc && !away(got) {
			t.Errorf("the watcher once saw\n%s", got)
		}
	}
}

func TestTSM7_WhoSleepsLongerThanHisPublicationIsStillAway(t *testing.T) {
	t.Parallel()
	const expires = 10
	s := StartSystemWithPresence(t, "[im]\naway_delay = \"1s\"\n")
	ctx := within(t, 60*time.Second)
	alice, bob := s.Phone("alice", phone.TLS), s.Phone("bob", phone.WSS)
	online(t, ctx, alice, s.Push())
	online(t, ctx, bob, phone.Push{}) // nobody can wake him
	publish(t, ctx, alice, "", documentOf(alice), expires)
	publish(t, ctx, bob, "", documentOf(bob), expires)
	hers, his := watch(t, s.PBX, "alice"), watch(t, s.PBX, "bob")
	alice.Sleep()
	bob.Sleep()
	asleep := time.Now()
	hers.until(t, "away", 15*time.Second, away)
	his.until(t, "nobody any more", 2*expires*time.Second, func(got string) bool { return !strings.Contains(got, "open") })
	<-time.After(time.Until(asleep.Add(2 * expires * time.Second)))
	all := hers.all()
	if last := all[len(all)-1]; !away(last) {
		t.Errorf("after %v the watcher sees\n%s", time.Since(asleep), last)
	}
	for _, got := range all {
		if strings.Contains(got, "closed") || got == "" {
			t.Errorf("the watcher saw her gone: %q", all)
		}
	}
}

func TestTSM6_WhatASleeperWatchesIsToldOnReturn(t *testing.T) {
	t.Parallel()
	s := StartSystemWithPresence(t, "")
	ctx := within(t, 60*time.Second)
	alice, push := s.Phone("alice", phone.TLS), s.Push()
	bob := s.Phone("bob", phone.WSS)
	online(t, ctx, alice, push)
	online(t, ctx, bob, s.Push())
	sub := alice.Request("SUBSCRIBE", bob.AOR())
	sub.Add("Contact", "<sip:alice@192.0.2.1;transport=tls>")
	sub.Add("Event", "presence")
	sub.Add("Accept", "application/pidf+xml")
	sub.Add("Expires", "300")
	_, err := alice.Do(ctx, sub)
	must(t, err)
	told := func() *phone.Message {
		t.Helper()
		select {
		case m := <-alice.Messages():
			return m
		case <-ctx.Done():
			t.Fatal("alice is told nothing")
			return nil
		}
	}
	before, _ := told().CSeq()
	alice.Sleep()
	s.untilAsleep(alice.AOR())
	tag := publish(t, ctx, bob, "", strings.Replace(documentOf(bob), "open", "closed", 1), 300)
	last := strings.Replace(documentOf(bob), `"t1"`, `"t2"`, 1)
	tag = publish(t, ctx, bob, tag, last, 300)
	w := watch(t, s.PBX, "bob")
	w.until(t, "bob", 15*time.Second, func(got string) bool { return got == last })
	if n := alice.Count("NOTIFY"); n != 1 {
		t.Errorf("alice was told %d times before she slept", n)
	}
	online(t, ctx, alice, push)
	m := told()
	seq, _ := m.CSeq()
	if seq < before+2 || string(m.Body) != last {
		t.Errorf("CSeq %d after %d, and\n%s", seq, before, m.Body)
	}
	publish(t, ctx, bob, tag, "", 0)
	if next, _ := told().CSeq(); next <= seq {
		t.Errorf("CSeq %d after %d", next, seq)
	}
	uncomplaining(t, alice)
}
