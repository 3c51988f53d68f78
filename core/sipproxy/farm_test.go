package sipproxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/upstream"
)

// A farm is a PBX of two servers, the second of which is there for the days
// when the first is not.
type farm struct {
	w    *town
	a, b *script
	at   map[string]*script // by address

	mu   sync.Mutex
	down map[string]bool     // guarded by mu
	ends map[string]net.Conn // guarded by mu
}

const serverA, serverB = "10.0.0.1:5060", "10.0.0.2:5060"

// onFarm tells a story with a farm. The words of other stories mean server a
// when they speak of the PBX.
func onFarm(t *testing.T, story func(t *testing.T, w *town, f *farm), with ...func(*Config)) {
	t.Helper()
	inTown(t, func(t *testing.T, w *town) {
		f := &farm{w: w, a: newScript(t, "server a", nil), b: newScript(t, "server b", nil), down: map[string]bool{}, ends: map[string]net.Conn{}}
		f.at = map[string]*script{serverA: f.a, serverB: f.b}
		w.stopCore()
		w.outward = func(c *upstream.Config) {
			c.Upstreams = map[string][]string{"example.com": {"sip:" + serverA, "sip:" + serverB}}
			c.DialTCP = f.dial
		}
		w.startCore()
		pass(5 * time.Second)
		w.tunnelUp()
		w.pbx = f.a
		story(t, w, f)
	}, with...)
}

func (f *farm) dial(_ context.Context, address string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down[address] {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	f.at[address].connected(far)
	f.ends[address] = far
	go f.at[address].listen(far)
	return addressed{near, netip.MustParseAddrPort(address)}, nil
}

// fails takes servers away, as a power cut does; returns brings them back.
func (f *farm) fails(addresses ...string) {
	f.mu.Lock()
	for _, a := range addresses {
		f.down[a] = true
		f.ends[a].Close()
	}
	f.mu.Unlock()
	synctest.Wait()
}

func (f *farm) returns(addresses ...string) {
	f.mu.Lock()
	for _, a := range addresses {
		delete(f.down, a)
	}
	f.mu.Unlock()
	for _, a := range addresses {
		for f.w.proxy.up.LiveHop("tcp:"+a) == nil {
			pass(100 * time.Millisecond)
		}
	}
}

// wants503 takes a 503 that says when to come back.
func wants503(t *testing.T, ph *phone) {
	t.Helper()
	got := ph.hears("SIP/2.0 503")
	if n, err := strconv.Atoi(first(got, "Retry-After")); err != nil || n < 1 || n > 15 {
		t.Errorf("Retry-After %q", first(got, "Retry-After"))
	}
}

func TestRFC3263_ARequestGoesToTheNextServerWhenOneCannotBeReached(t *testing.T) {
	onFarm(t, func(t *testing.T, w *town, f *farm) {
		ph := w.phone("alice", "tls").awake()
		f.fails(serverA)
		start := time.Now()
		ph.say(ph.register("Expires: 0")...)
		reg := f.b.hears("REGISTER")
		ph.say(ph.asks("MESSAGE", "sip:carol@example.com")...)
		msg := f.b.hears("MESSAGE")
		out := ph.dials("sip:carol@example.com", "out")
		ph.say(out...)
		ph.hears("SIP/2.0 100")
		inv := f.b.hears("INVITE")
		if took := time.Since(start); took != 0 {
			t.Errorf("they waited %v", took)
		}
		f.b.say(reply(reg, 200)...)
		ph.hears("SIP/2.0 200")
		f.b.say(reply(msg, 200)...)
		ph.hears("SIP/2.0 200")
		f.b.say(reply(inv, 486)...)
		f.b.hears("ACK")
		ph.hears("SIP/2.0 486")
		ph.say(inviteOf(out, "ACK")...)
	})
}

func TestRFC3263_A503SendsARequestToTheNextServerWithinItsTransaction(t *testing.T) {
	onFarm(t, func(t *testing.T, w *town, f *farm) {
		ph := w.phone("alice", "wss").awake()
		for _, req := range [][]string{ph.register("Expires: 1200"), ph.asks("MESSAGE", "sip:carol@example.com"), ph.dials("sip:carol@example.com", "out")} {
			if req = with(req, "Contact", first(message(req...), "Contact")+";q=0.5"); req[0][:6] == "INVITE" {
				defer ph.say(inviteOf(req, "ACK")...)
			}
			ph.say(req...)
			one := f.a.hears(req[0][:6])
			f.a.say(reply(one, 503)...)
			other := f.b.hears(req[0][:6])
			if first(one, "Via") == first(other, "Via") {
				t.Error("the second server got the branch of the first")
			}
			if req[0][:6] == "INVITE" {
				f.a.hears("ACK")
				ph.hears("SIP/2.0 100")
			}
			f.b.say(reply(other, 404)...)
			if req[0][:6] == "INVITE" {
				f.b.hears("ACK")
			}
			ph.hears("SIP/2.0 404")
			f.a.silence()
			f.b.silence()
		}
	})
}

// PX-4: what all servers answer 503 is the caller's 500.
func TestRFC3263_NoServerIsAskedTwice(t *testing.T) {
	onFarm(t, func(t *testing.T, w *town, f *farm) {
		ph := w.phone("alice", "tls").awake()
		out := ph.dials("sip:carol@example.com", "out")
		ph.say(out...)
		ph.hears("SIP/2.0 100")
		for _, s := range []*script{f.a, f.b} {
			s.say(reply(s.hears("INVITE"), 503)...)
			s.hears("ACK")
		}
		ph.hears("SIP/2.0 500")
		ph.say(inviteOf(out, "ACK")...)
		f.a.silence()
		f.b.silence()
	})
}

func TestRFC3263_AServerThatIsLostUnderARequestIsFollowedByTheNext(t *testing.T) {
	onFarm(t, func(t *testing.T, w *town, f *farm) {
		ph := w.phone("alice", "tls").awake()
		ph.say(ph.asks("MESSAGE", "sip:carol@example.com")...)
		f.a.hears("MESSAGE")
		out := ph.dials("sip:carol@example.com", "out")
		ph.say(out...)
		ph.hears("SIP/2.0 100")
		f.a.hears("INVITE")
		f.fails(serverA)
		f.b.say(reply(f.b.hearsOf("out", "INVITE"), 486)...)
		f.b.hearsOf("out", "ACK")
		f.b.say(reply(f.b.hears("MESSAGE"), 200)...)
		ph.hearsOf("out", "SIP/2.0 486")
		ph.say(inviteOf(out, "ACK")...)
		ph.hears("SIP/2.0 200")
	})
}

// Who has said so much as 100 may be ringing somebody.
func TestRFC3263_ACallThatAServerHasTakenDoesNotGoToAnother(t *testing.T) {
	onFarm(t, func(t *testing.T, w *town, f *farm) {
		ph := w.phone("alice", "tls").awake()
		out := ph.dials("sip:carol@example.com", "out")
		ph.say(out...)
		ph.hears("SIP/2.0 100")
		f.a.say(reply(f.a.hears("INVITE"), 180)...)
		ph.hears("SIP/2.0 180")
		f.fails(serverA)
		wants503(t, ph)
		ph.say(inviteOf(out, "ACK")...)
		f.b.silence()
	})
}

func TestRFC3263_ASilentServerGivesWayAtTimerB(t *testing.T) {
	onFarm(t, func(t *testing.T, w *town, f *farm) {
		ph := w.phone("alice", "tls").awake()
		out := ph.dials("sip:carol@example.com", "out")
		ph.say(out...)
		ph.hears("SIP/2.0 100")
		f.a.hears("INVITE")
		pass(32 * time.Second)
		inv := f.b.hears("INVITE")
		f.b.say(reply(inv, 200, "Contact: <sip:carol@10.0.0.33>")...)
		ok := ph.hears("SIP/2.0 200")
		ph.say(dialogRequestOf(ph, "ACK", ok)...)
		f.b.hears("ACK")
	})
}

func TestAServerThat503sWithRetryAfterIsLeftAloneByAll(t *testing.T) {
	onFarm(t, func(t *testing.T, w *town, f *farm) {
		ph := w.phone("alice", "tls").awake()
		ph.say(ph.asks("MESSAGE", "sip:carol@example.com")...)
		f.a.say(reply(f.a.hears("MESSAGE"), 503, "Retry-After: 60")...)
		f.b.say(reply(f.b.hears("MESSAGE"), 200)...)
		ph.hears("SIP/2.0 200")
		ph.say(ph.asks("MESSAGE", "sip:carol@example.com")...)
		f.b.say(reply(f.b.hears("MESSAGE"), 503, "Retry-After: 12")...)
		ph.hears("SIP/2.0 503")
		said := make(map[int]bool)
		for range 40 {
			ph.say(ph.asks("MESSAGE", "sip:carol@example.com")...)
			n, err := strconv.Atoi(first(ph.hears("SIP/2.0 503"), "Retry-After"))
			if err != nil || n < 12 || n > 27 {
				t.Errorf("nobody is asked; Retry-After %d, %v, want the shorter and a little", n, err)
			}
			said[n] = true
		}
		if len(said) < 4 {
			t.Errorf("all come back at once: %v", said)
		}
		f.a.silence()
		pass(60 * time.Second)
		ph.say(ph.asks("MESSAGE", "sip:carol@example.com")...)
		f.a.say(reply(f.a.hears("MESSAGE"), 200)...)
		ph.hears("SIP/2.0 200")
	})
}

func TestWhileNoServerAnswersClientsHear503AtOnce(t *testing.T) {
	onFarm(t, func(t *testing.T, w *town, f *farm) {
		ph := w.phone("alice", "tls").awake()
		f.fails(serverA, serverB)
		pass(time.Minute)
		for _, req := range [][]string{ph.register("Expires: 300"), ph.asks("MESSAGE", "sip:carol@example.com"), ph.dials("sip:carol@example.com", "out")} {
			start := time.Now()
			ph.say(req...)
			pass(time.Second)
			if req[0][:6] == "INVITE" {
				ph.hears("SIP/2.0 100")
				defer ph.say(inviteOf(req, "ACK")...)
			}
			wants503(t, ph)
			if took := time.Since(start); took > time.Second {
				t.Errorf("%s was answered after %v", req[0], took)
			}
		}
	})
}

// A dialog is with the server that made it, while others make theirs elsewhere.
func TestADialogStaysWithItsServer(t *testing.T) {
	onFarm(t, func(t *testing.T, w *town, f *farm) {
		ph := w.phone("alice", "tls").awake()
		f.fails(serverA)
		out := ph.dials("sip:carol@example.com", "out")
		ph.say(out...)
		ph.hears("SIP/2.0 100")
		inv := f.b.hears("INVITE")
		f.b.say(reply(inv, 200, "Contact: <sip:carol@10.0.0.33>")...)
		ok := ph.hears("SIP/2.0 200")
		f.returns(serverA)
		ph.say(dialogRequestOf(ph, "ACK", ok)...)
		f.b.hears("ACK")
		ph.say(dialogRequestOf(ph, "INFO", ok)...)
		f.b.say(reply(f.b.hears("INFO"), 200)...)
		ph.hears("SIP/2.0 200")
		f.fails(serverB) // one that is gone is stood in for
		ph.say(dialogRequestOf(ph, "BYE", ok)...)
		pass(time.Second)
		f.a.say(reply(f.a.hears("BYE"), 200)...)
		ph.hears("SIP/2.0 200")
	})
}

// dialogRequestOf is a phone's request inside the dialog that a 200 opened.
func dialogRequestOf(ph *phone, method, ok string) []string {
	seq++
	lines := []string{
		method + " sip:carol@10.0.0.33 SIP/2.0",
		"Via: SIP/2.0/TLS 192.0.2.7:50000;branch=z9hG4bKin" + strconv.Itoa(seq),
		"Max-Forwards: 70", "From: " + first(ok, "From"), "To: " + first(ok, "To"), "Call-ID: " + first(ok, "Call-ID"),
		"CSeq: " + strconv.Itoa(map[string]int{"ACK": 1}[method]+seq) + " " + method,
	}
	rr := header(ok, "Record-Route")
	for i := range rr {
		lines = append(lines, "Route: "+rr[len(rr)-1-i])
	}
	return lines
}
