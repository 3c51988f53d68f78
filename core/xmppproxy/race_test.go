package xmppproxy

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/xmppproxy/session"
)

// T-XM-14: two logins of one device at once take the place of what it left
// behind only once; what waited reaches one of them, and each has a session of
// its own.
func TestTXM14TwoLoginsOfADeviceAtOnceDoNotShareASession(t *testing.T) {
	for range 20 {
		within(t, nil, func(w *world) {
			p, _ := w.online("alice", "phone")
			s := w.session("alice@example.com/phone")
			p.reset()
			w.store.Fail(errors.New("no room")) // both wait for it
			w.says(s, message("m1", "one"))
			two := []*phone{w.phone("tls"), w.phone("tls")}
			for _, q := range two {
				q.logsIn("alice")
				q.say("<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>phone</resource></bind></iq>")
			}
			w.store.Fail(nil)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			alive := 0
			for _, q := range two {
				if q.end() == "" {
					alive++
				}
			}
			attached := 0
			for _, r := range w.proxy.Rows("") {
				if r.Flow != nil && r.State == session.Active {
					attached++
				}
			}
			if alive != attached {
				t.Errorf("%d flows live, %d have a session", alive, attached)
			}
		})
	}
}

// What a client says in the moment its flow is given up is no error: it resumes.
func TestAWordToAFlowThatIsGivenUpIsNotAnswered(t *testing.T) {
	within(t, nil, func(w *world) {
		p, _ := w.online("alice", "phone")
		p.heard()
		l := w.proxy.lines.withJID("alice@example.com/phone")
		l.mu.Lock()
		l.conn.leave()
		l.mu.Unlock()
		p.say("<message to='bob@example.com'><body>x</body></message>")
		if text := p.heard(); text != "" || p.end() != "" {
			t.Errorf("it heard %q, and the flow ended %q", text, p.end())
		}
	})
}

// A session that is over does not come back with the next start of the core
// because the store failed just then.
func TestASessionThatIsOverIsTakenOutOfAStoreThatFailedForAWhile(t *testing.T) {
	within(t, nil, func(w *world) {
		p, _ := w.online("alice", "phone")
		w.store.Fail(errors.New("no room"))
		p.say("</stream:stream>")
		time.Sleep(10 * time.Second)
		w.store.Fail(nil)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if records, _ := w.store.Len(); records != 0 {
			t.Errorf("%d records are left", records)
		}
	})
}
