package upstream

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var asked = Config{Upstreams: map[string][]string{"example.com": {"sip:10.0.0.1", "sip:10.0.0.2"}}, Probe: 30 * time.Second}

// server plays a SIP server at the far end of what is dialled: it answers each
// request as told, or not at all when that is "".
type scripted struct {
	answer atomic.Pointer[string] // status line and headers, without those of the request
	heard  atomic.Int32
	last   atomic.Pointer[string]
}

func (s *scripted) say(status string) { s.answer.Store(&status) }

func (s *scripted) serve(c net.Conn) {
	buf := make([]byte, 8<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		text := string(buf[:n])
		if !strings.HasPrefix(text, "OPTIONS ") {
			continue
		}
		s.heard.Add(1)
		s.last.Store(&text)
		if status := *s.answer.Load(); status != "" {
			_, _ = c.Write([]byte(replyTo(text, status)))
		}
	}
}

// replyTo makes a response of a request's own Via, From, To, Call-ID and CSeq.
func replyTo(req, status string) string {
	out := "SIP/2.0 " + status + "\r\n"
	for line := range strings.SplitSeq(req, "\r\n") {
		for _, name := range []string{"Via:", "From:", "To:", "Call-ID:", "CSeq:"} {
			if strings.HasPrefix(line, name) {
				out += line + "\r\n"
			}
		}
	}
	return out + "Content-Length: 0\r\n\r\n"
}

// scriptedWorld has a scripted server at each address that is dialled.
func scriptedWorld(status string) (map[string]*scripted, func(*world)) {
	all := map[string]*scripted{"10.0.0.1:5060": {}, "10.0.0.2:5060": {}}
	for _, s := range all {
		s.say(status)
	}
	return all, func(w *world) {
		w.play = func(address string, c net.Conn) { all[address].serve(c) }
	}
}

func TestEachServerIsAskedByOPTIONSWithJitter(t *testing.T) {
	all, play := scriptedWorld("200 OK")
	inWorld(t, asked, func(t *testing.T, w *world) {
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for at, s := range all {
			if n := s.heard.Load(); n < 17 || n > 26 {
				t.Errorf("%s was asked %d times in 10 minutes", at, n)
			}
			text := *s.last.Load()
			for _, want := range []string{"OPTIONS sip:10.0.0.", "Via: SIP/2.0/TCP ", "Max-Forwards: 0\r\n", "CSeq: 1 OPTIONS\r\n", "From: <sip:", ";tag="} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in\n%s", want, text)
				}
			}
		}
		if len(w.seen.messages()) != 0 {
			t.Errorf("answers to OPTIONS are nobody else's: %q", w.seen.messages())
		}
		if a, b := all["10.0.0.1:5060"].heard.Load(), len(w.dials()); b != 2 || a == 0 {
			t.Errorf("dialled %v", w.dials())
		}
	}, play)
}

func TestAServerThatAnswersAnythingIsUp(t *testing.T) {
	for _, status := range []string{"200 OK", "404 Not Found", "483 Too Many Hops", "503 Service Unavailable", "603 Decline"} {
		all, play := scriptedWorld(status)
		inWorld(t, asked, func(t *testing.T, w *world) {
			time.Sleep(10 * time.Minute)
			if at := w.reached(""); at != "10.0.0.1:5060" || w.seen.reached() != "" || all[at].heard.Load() == 0 {
				t.Errorf("%s: led to %s, %s", status, at, w.seen.reached())
			}
		}, play)
	}
}

func TestAServerThatAnswers503WithRetryAfterIsAwayForThatTime(t *testing.T) {
	all, play := scriptedWorld("200 OK")
	all["10.0.0.1:5060"].say("503 Service Unavailable\r\nRetry-After: 120 (backup)")
	inWorld(t, asked, func(t *testing.T, w *world) {
		synctest.Wait()
		if at := w.reached(""); at != "10.0.0.2:5060" {
			t.Errorf("led to %s", at)
		}
		all["10.0.0.1:5060"].say("200 OK")
		time.Sleep(119 * time.Second)
		if at := w.reached(""); at != "10.0.0.2:5060" {
			t.Errorf("too early: led to %s", at)
		}
		time.Sleep(time.Second)
		if at := w.reached(""); at != "10.0.0.1:5060" {
			t.Errorf("led to %s", at)
		}
	}, play)
}

// An open port alone proves no life.
func TestAServerThatHangsIsFoundByItsSilenceAndPassedOver(t *testing.T) {
	all, play := scriptedWorld("200 OK")
	inWorld(t, asked, func(t *testing.T, w *world) {
		time.Sleep(time.Minute)
		first, _ := w.up.Conn(t.Context(), "example.com", "")
		all["10.0.0.1:5060"].say("")
		time.Sleep(36*time.Second + probeTime)
		synctest.Wait()
		if !first.isClosing() {
			t.Error("what waits on the dead connection is not told")
		}
		if at := w.reached(""); at != "10.0.0.2:5060" {
			t.Errorf("led to %s", at)
		}
		time.Sleep(5 * time.Minute) // it is connected to again and again, and proves nothing
		if at := w.reached(""); at != "10.0.0.2:5060" {
			t.Errorf("led to %s", at)
		}
		all["10.0.0.1:5060"].say("200 OK")
		time.Sleep(pauseMax + probeTime)
		if at := w.reached(""); at != "10.0.0.1:5060" {
			t.Errorf("it is well again: led to %s", at)
		}
	}, play)
}

func TestAServerThatNeverAnsweredOPTIONSIsNotJudgedByIt(t *testing.T) {
	_, play := scriptedWorld("")
	inWorld(t, asked, func(t *testing.T, w *world) {
		time.Sleep(10 * time.Minute)
		if at := w.reached(""); at != "10.0.0.1:5060" || w.seen.reached() != "" || len(w.dials()) != 2 {
			t.Errorf("led to %s, %s, dialled %v", at, w.seen.reached(), w.dials())
		}
	}, play)
}

func TestASuspicionIsFollowedAtOnce(t *testing.T) {
	all, play := scriptedWorld("200 OK")
	inWorld(t, asked, func(t *testing.T, w *world) {
		time.Sleep(10 * time.Second)
		c, _ := w.up.Conn(t.Context(), "example.com", "")
		before := all["10.0.0.1:5060"].heard.Load()
		for range 100 {
			w.up.Suspect(c)
			synctest.Wait()
		}
		if n := all["10.0.0.1:5060"].heard.Load() - before; n != 1 {
			t.Errorf("asked %d times", n)
		}
		all["10.0.0.1:5060"].say("")
		time.Sleep(2 * time.Second)
		w.up.Suspect(c)
		time.Sleep(probeTime)
		synctest.Wait()
		if at := w.reached(""); at != "10.0.0.2:5060" {
			t.Errorf("led to %s", at)
		}
	}, play)
}

func TestARequestThatIsNotAnsweredCountsOnlyIfNothingElseWasHeard(t *testing.T) {
	inWorld(t, Config{Upstreams: asked.Upstreams}, func(t *testing.T, w *world) {
		synctest.Wait()
		c, _ := w.up.Conn(within(t, time.Second), "example.com", "")
		p := &peer{t, w.end("10.0.0.1:5060")}
		sent := time.Now()
		time.Sleep(time.Second)
		p.send(message(1, ""))
		synctest.Wait()
		w.up.Failed(c, sent)
		synctest.Wait()
		if c.isClosing() {
			t.Error("it lives, it only did not answer that one")
		}
		time.Sleep(time.Second)
		sent = time.Now()
		time.Sleep(32 * time.Second)
		w.up.Failed(c, sent)
		synctest.Wait()
		if !c.isClosing() {
			t.Error("nothing was heard for 32 s")
		}
	})
}

// UDP has no connection that could be refused: ICMP says it.
func TestOverUDPAServerThatIsNotThereIsRefusedAndPassedOver(t *testing.T) {
	gone := udpFrom(t, "127.0.0.1:0")
	here := udpFrom(t, "127.0.0.1:0")
	dead := gone.LocalAddr().String()
	gone.Close()
	play := &scripted{}
	play.say("200 OK")
	go func() {
		buf := make([]byte, 8<<10)
		for {
			n, from, err := here.ReadFrom(buf)
			if err != nil {
				return
			}
			play.heard.Add(1)
			_, _ = here.WriteTo([]byte(replyTo(string(buf[:n]), "200 OK")), from)
		}
	}()
	u := onLoopback(t, Config{
		Listen: []string{"udp:127.0.0.1:0"}, Probe: time.Hour,
		Upstreams: map[string][]string{"example.com": {"sip:" + dead + ";transport=udp", "sip:" + here.LocalAddr().String() + ";transport=udp"}},
	}, &recorder{})
	deadline := time.Now().Add(10 * time.Second)
	for {
		changed := u.domains["example.com"].changes()
		st := u.Status()[0]
		if play.heard.Load() > 0 && !st.Servers[0].Up && strings.Contains(st.Servers[0].LastError, errRefused.Error()) {
			break
		}
		select {
		case <-changed:
		case <-time.After(time.Until(deadline)):
			t.Fatalf("status %+v", st)
		}
	}
	c, err := u.Conn(t.Context(), "example.com", "")
	if err != nil || c.Remote() != netip.MustParseAddrPort(here.LocalAddr().String()) {
		t.Errorf("%v, %v", c, err)
	}
}

// A request that a PBX ignores, of a client it does not like, is no outage.
func TestOverUDPAnAnswerToOPTIONSIsASignOfLife(t *testing.T) {
	here := udpFrom(t, "127.0.0.1:0")
	go func() {
		buf := make([]byte, 8<<10)
		for {
			n, from, err := here.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = here.WriteTo([]byte(replyTo(string(buf[:n]), "200 OK")), from)
		}
	}()
	u := onLoopback(t, Config{
		Listen: []string{"udp:127.0.0.1:0"}, Probe: time.Hour,
		Upstreams: map[string][]string{"example.com": {"sip:" + here.LocalAddr().String() + ";transport=udp"}},
	}, &recorder{})
	c, err := u.Conn(t.Context(), "example.com", "")
	if err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	if err := u.serversOf(c)[0].ask(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if !c.heardSince(sent) {
		t.Error("the server would be taken for dead by the next request that it ignores")
	}
}

func TestParseRetryAfter(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"5": 5 * time.Second, " 120 (in 2 minutes);duration=3600 ": 2 * time.Minute, "18000;duration=3600": 5 * time.Hour,
		"0": 0, "": 0, "-1": 0, "x": 0, "99999999999999999999": 0,
	} {
		if got, ok := ParseRetryAfter(text); got != want || ok != (want > 0) {
			t.Errorf("%q: %v, %v", text, got, ok)
		}
	}
}

func TestTheErrorOfAnUnreachableDomainNamesItAndTheReasons(t *testing.T) {
	inner := errors.New("connection refused")
	err := error(&UnreachableError{Domain: "example.com", Err: fmt.Errorf("10.0.0.1: %w", inner)})
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, inner) || err.Error() != "upstream unreachable: example.com: 10.0.0.1: connection refused" {
		t.Error(err)
	}
}
