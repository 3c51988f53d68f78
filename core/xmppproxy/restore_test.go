package xmppproxy

import (
	"context"
	"errors"
	"testing"
	"time"

	"sallyport/core/xmppproxy/session"
)

// unreadable is a store whose journals cannot be read now.
type unreadable struct{ *Memory }

func (unreadable) Read(context.Context, string, uint64, func(uint64, []byte) bool) error {
	return errors.New("no answer")
}

// What a server was told is safe is not thrown away because the store is slow
// when the core starts.
func TestAJournalThatCannotBeReadNowIsKept(t *testing.T) {
	within(t, nil, func(w *world) {
		p, id := w.online("alice", "phone")
		s := w.session("alice@example.com/phone")
		p.reset()
		w.says(s, message("m1", "one"))
		time.Sleep(3 * time.Second)
		w.end()
		records, entries := w.store.Len()
		other := New(Config{Domains: []Domain{w.domain()}}, Deps{Store: unreadable{w.store}})
		if err := other.load(context.Background()); err != nil {
			t.Fatal(err)
		}
		if r, e := w.store.Len(); r != records || e != entries || e == 0 {
			t.Errorf("%d records and %d entries are left of %d and %d", r, e, records, entries)
		}
		if rows := other.Rows(""); len(rows) != 0 {
			t.Errorf("it is there without its journal: %+v", rows)
		}
		other.end()
		w.start(nil)
		if rows := w.proxy.Rows(""); len(rows) != 1 || rows[0].State != session.Orphan || rows[0].Held != 1 {
			t.Fatalf("restored: %+v", rows)
		}
		p = w.phone("tls")
		p.logsIn("alice")
		p.resumes(id, "0")
		bodies(t, p.hears("<resumed "), "one")
	})
}
