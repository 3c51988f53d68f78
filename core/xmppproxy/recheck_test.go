package xmppproxy

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/session"
)

// registrar takes a registration, whose token may die.
type registrar struct {
	nobody
	dead   atomic.Bool
	client Client
}

func (r *registrar) Pushable(Client) bool { return !r.dead.Load() }

func (r *registrar) FromClient(c Client, e *stanza.Element) ([]byte, bool) {
	r.client = c
	return nil, e.Child("urn:xmpp:push:0", "enable") != nil
}

// A token that dies is told to the session: it does not wait for a client that
// nothing can wake.
func TestASessionWhoseTokenDiedIsNotKeptAsOneThatCanBeWoken(t *testing.T) {
	within(t, nil, func(w *world) {
		r := &registrar{}
		w.end()
		w.notifier = r
		w.start(func(c *Config) { c.Policy.Unpushable = 10 * time.Minute })
		p, _ := w.online("alice", "phone")
		p.reset()
		time.Sleep(time.Hour)
		if rows := w.proxy.Rows(""); len(rows) != 1 || rows[0].State != session.Away {
			t.Fatalf("before: %+v", rows)
		}
		r.dead.Store(true)
		w.proxy.Recheck("alice@example.com/phone")
		w.proxy.Recheck("alice@example.com/unknown")
		time.Sleep(time.Second)
		synctest.Wait()
		if rows := w.proxy.Rows(""); len(rows) != 0 {
			t.Errorf("after: %+v", rows)
		}
	})
}

// An answer that takes its time reaches the client, also over a new flow.
func TestAnAnswerThatComesLaterIsNotLostWithTheFlow(t *testing.T) {
	within(t, nil, func(w *world) {
		r := &registrar{}
		w.end()
		w.notifier = r
		w.start(nil)
		p, id := w.online("alice", "phone")
		p.say("<iq type='set' id='e1'><enable xmlns='urn:xmpp:push:0' jid='push.example.com'/></iq>")
		p.reset()
		r.client.Answer([]byte("<iq type='result' id='e1'/>"))
		synctest.Wait()
		q := w.phone("tls")
		q.logsIn("alice")
		q.say("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>")
		q.hears("<resumed", "<iq type='result' id='e1'/>")
	})
}
