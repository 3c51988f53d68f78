package notify_test

import (
	"errors"
	"testing"

	"sallyport/core/location"
	"sallyport/core/xmppproxy/notify"
)

// slowStore is asked when it writes, and may fail.
type slowStore struct {
	location.Memory
	put func() error
}

func (s *slowStore) Put(key string, value []byte) error {
	if err := s.put(); err != nil {
		return err
	}
	return s.Memory.Put(key, value)
}

// What a client is told is registered outlives a kill of the core: it is in the
// store first. What could not be written is refused, so that the client tries
// again.
func TestARegistrationIsInTheStoreBeforeItsClientHears(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := &client{jid: "alice@example.com/phone"}
		w.store.put = func() error {
			if c.late.Load() != nil {
				t.Error("answered before it was written")
			}
			return nil
		}
		form := enable("node", options("service", "apns", "device_id", alertToken, "topic", bundle))
		w.granted(c, form)
		if all, _ := w.store.Load(t.Context()); len(all) != 1 {
			t.Fatalf("%d devices are stored", len(all))
		}
		w.store.put = func() error { return errors.New("the disk is full") }
		w.refused(c, form, "resource-constraint")
		w.store.put = func() error { return nil }

		c.late.Store(nil)
		w.granted(c, `<iq type='set' id='d'><disable xmlns='urn:xmpp:push:0' jid='push.example.com'/></iq>`)
		if all, _ := w.store.Load(t.Context()); len(all) != 0 {
			t.Errorf("%d devices are stored after the client took it back", len(all))
		}
	})
}

// A token moves to the device of the account that brought it last; the session
// of the other one can be reached by nothing any more, and is told.
func TestASessionThatLosesItsTokenIsAskedAboutAgain(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		form := enable("node", options("service", "apns", "device_id", alertToken, "topic", bundle))
		old, fresh := &client{jid: "alice@example.com/old"}, &client{jid: "alice@example.com/fresh"}
		w.granted(old, form)
		w.granted(fresh, form)
		if old.again.Load() != 1 || fresh.again.Load() != 0 || w.Pushable(old) || !w.Pushable(fresh) {
			t.Errorf("asked about %d and %d times; pushable %v and %v", old.again.Load(), fresh.again.Load(), w.Pushable(old), w.Pushable(fresh))
		}
	})
}
