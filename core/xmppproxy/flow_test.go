package xmppproxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/core/xmppproxy/session"
	"sallyport/tunnel"
)

func TestAClientIsHeldUpWhileItsServerDoesNotRead(t *testing.T) {
	within(t, nil, func(w *world) {
		p, _ := w.online("alice", "phone")
		up := w.streams[0]
		up.queued.Store(highWater + 1)
		big := "<message to='bob@example.com'><body>" + strings.Repeat("x", 15<<10) + "</body></message>"
		sent := 0
		for ; sent < 100; sent++ {
			if err := p.flow.Send([]byte(big)); err != nil {
				break
			}
			synctest.Wait()
		}
		if sent > 8 {
			t.Fatalf("%d messages were taken", sent)
		}
		up.queued.Store(0)
		time.Sleep(2 * retryHeld)
		synctest.Wait()
		p.say(big)
		if got, _, _ := w.snapshot(w.session("alice@example.com/phone")); len(got) != 1+sent+1 {
			t.Errorf("the server got %d of %d", len(got)-1, sent+1)
		}
	})
}

// What a header declares is declared by each stanza that uses it, once (RFC
// 6120 §4.8.4), however often the stanza changes hands here.
func TestAClientMayDeclarePrefixesInItsHeader(t *testing.T) {
	within(t, nil, func(w *world) {
		p := w.phone("tls")
		more := strings.Replace(header, " to=", " xmlns:x='urn:x' xmlns:y='urn:y' to=", 1)
		p.say(header)
		p.say(auth("alice", "pw"))
		p.say(more)
		p.binds("phone")
		p.enables()
		p.say("<presence><show>chat</show><x:a y:b='1'/></presence><message to='bob@example.com'><x:a/></message>")
		s := w.session("alice@example.com/phone")
		const want = "<message xmlns:x='urn:x' to='bob@example.com'><x:a/></message>"
		if got, _, ended := w.snapshot(s); len(got) != 2 || got[1] != want || ended != "" {
			t.Fatalf("the server got %q, and the session ended %q", got, ended)
		}
		p.reset()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if got, _, _ := w.snapshot(s); len(got) != 3 || strings.Count(got[2], "xmlns:x=") != 1 || !strings.Contains(got[2], "<show>away</show>") {
			t.Errorf("the server got %q", got)
		}
	})
}

func TestALongElementGoesThroughAWebSocketInPieces(t *testing.T) {
	within(t, nil, func(w *world) {
		p := w.phone("wss")
		for _, text := range []string{
			"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com' version='1.0'/>", auth("alice", "pw"),
			"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com' version='1.0'/>",
			"<iq xmlns='jabber:client' type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
		} {
			p.say(text)
		}
		s := w.session("alice@example.com/made")
		long := strings.Repeat("y", 200<<10)
		text := "<message xmlns='jabber:client' to='bob@example.com'><body>" + long + "</body></message>"
		for len(text) > 16<<10 {
			if err := p.flow.SendPart([]byte(text[:16<<10])); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			text = text[16<<10:]
		}
		p.say(text)
		if got, _, _ := w.snapshot(s); len(got) != 1 || !strings.Contains(got[0], long) {
			t.Fatalf("the server got %d stanzas", len(got))
		}
		for range 17 {
			if err := p.flow.SendPart(make([]byte, 16<<10)); err != nil {
				break
			}
			synctest.Wait()
		}
		if p.end() != "policy" {
			t.Errorf("a message without an end: the flow ended %q", p.end())
		}
	})
}

func TestTheAgendaCallsInOrderAndTakesEarlierTimes(t *testing.T) {
	within(t, nil, func(w *world) {
		var order []string
		add := func(name string, at time.Duration) *reminder {
			r := &reminder{func() { order = append(order, name) }}
			w.proxy.agenda.at(r, time.Now().Add(at))
			return r
		}
		add("b", 2*time.Second)
		add("c", 3*time.Second)
		late := add("a", 9*time.Second)
		gone := add("gone", time.Second)
		w.proxy.agenda.at(late, time.Now().Add(time.Second))
		w.proxy.agenda.at(late, time.Now().Add(20*time.Second)) // later than it stands: it stays
		w.proxy.agenda.forget(gone)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got := strings.Join(order, ""); got != "abc" {
			t.Errorf("called %q", got)
		}
	})
}

type reminder struct{ do func() }

func (r *reminder) tick(time.Time) time.Time { r.do(); return time.Time{} }

// herald notes who is asked to log in anew, and what it hears of clients.
type herald struct {
	nobody
	mu     sync.Mutex
	alerts []string
	states []string
}

func (h *herald) Alert(c Client, a session.Alert) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a == session.Relogin {
		h.alerts = append(h.alerts, c.JID()+" at "+time.Now().Format("05.00"))
	}
}

func (h *herald) note(state string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states = append(h.states, state)
}

func (h *herald) Pushable(Client) bool { return true }
func (h *herald) Active(Client)        { h.note("active") }
func (h *herald) Away(Client)          { h.note("away") }
func (h *herald) Ended(Client)         { h.note("ended") }

// asked is who was, and heard what it heard.
func (h *herald) asked() []string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.alerts)
}

func (h *herald) heard() string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.states, " ")
}

func TestAfterARestartClientsThatDoNotComeBackAreAskedOneByOne(t *testing.T) {
	within(t, nil, func(w *world) {
		for i := range 5 {
			p, _ := w.online("alice", fmt.Sprint("r", i))
			p.reset()
		}
		_, id := w.online("bob", "phone")
		w.end()
		h := &herald{}
		w.notifier = h
		w.start(nil)
		p := w.phone("tls")
		p.logsIn("bob")
		p.resumes(id, "0")
		p.hears("<resumed ")
		time.Sleep(reloginAfter - time.Second)
		if early := h.asked(); len(early) != 0 {
			t.Errorf("asked before they had time: %q", early)
		}
		time.Sleep(10 * time.Second)
		times := map[string]bool{}
		asked := h.asked()
		for _, a := range asked {
			if strings.HasPrefix(a, "bob") {
				t.Error("bob is there already")
			}
			_, at, _ := strings.Cut(a, " at ")
			times[at] = true
		}
		if len(asked) != 5 || len(times) != 5 {
			t.Errorf("asked %q", asked)
		}
	})
}

func TestTheNotifierHearsWhetherAClientListens(t *testing.T) {
	within(t, nil, func(w *world) {
		h := &herald{}
		w.end()
		w.notifier = h
		w.start(nil)
		p, _ := w.online("alice", "phone")
		p.say("<inactive xmlns='urn:xmpp:csi:0'/>")
		p.say("<active xmlns='urn:xmpp:csi:0'/>")
		p.say("</stream:stream>")
		if got := h.heard(); got != "active away active ended" {
			t.Errorf("it heard %q", got)
		}
	})
}

func TestASilentClientIsHeldForAndAWordBringsItBack(t *testing.T) {
	within(t, nil, func(w *world) {
		p, _ := w.online("alice", "phone")
		_ = p.flow.Event(tunnel.EventSilent)
		synctest.Wait()
		s := w.session("alice@example.com/phone")
		w.says(s, message("m1", "one"))
		bodies(t, p.heard())
		p.say(" ")
		bodies(t, p.heard(), "one")
	})
}

func TestMetricsCountSessionsResumesAndErrors(t *testing.T) {
	within(t, nil, func(w *world) {
		reg := prometheus.NewRegistry()
		m := newMetrics(reg, w.proxy)
		m.resumed("probe")
		m.failed("host-unknown")
		w.online("alice", "phone")
		const want = `# HELP sallyport_xmpp_sessions Sessions of XMPP clients, by state.
# TYPE sallyport_xmpp_sessions gauge
sallyport_xmpp_sessions{state="active"} 1
sallyport_xmpp_sessions{state="away"} 0
sallyport_xmpp_sessions{state="inactive"} 0
sallyport_xmpp_sessions{state="orphan"} 0
sallyport_xmpp_sessions{state="retired"} 0
sallyport_xmpp_sessions{state="silent"} 0
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sallyport_xmpp_sessions"); err != nil {
			t.Error(err)
		}
		if n, err := testutil.GatherAndCount(reg); err != nil || n < 10 {
			t.Errorf("%d metrics, %v", n, err)
		}
	})
}

func TestAStoreThatCannotBeReadKeepsTheProxyFromStarting(t *testing.T) {
	want := errors.New("no disk")
	p := New(Config{}, Deps{Store: brokenStore{NewMemory(), want}})
	if err := p.Run(t.Context()); !errors.Is(err, want) {
		t.Errorf("%v", err)
	}
}

// brokenStore cannot be read.
type brokenStore struct {
	*Memory
	err error
}

func (b brokenStore) Load(context.Context, func(string, []byte) bool) error { return b.err }
