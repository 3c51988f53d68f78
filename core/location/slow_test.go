package location_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/location"
)

// slow is a store that takes five seconds for each write, as a cluster does
// that has lost its majority.
type slow struct {
	location.Memory
	puts, deletes int // owned by Location.Run
}

func (s *slow) Put(key string, value []byte) error {
	time.Sleep(5 * time.Second)
	s.puts++
	return s.Memory.Put(key, value)
}

func (s *slow) Delete(key string) error {
	time.Sleep(5 * time.Second)
	s.deletes++
	return s.Memory.Delete(key)
}

func TestNothingButBindAndSaveWaitsForTheStore(t *testing.T) {
	store := &slow{}
	test(t, store, func(t *testing.T, l *location.Location) {
		start := time.Now()
		if touched, err := l.Place(binding("f"), []location.Token{voip("v1")}, ""); err != nil || len(touched) != 1 {
			t.Fatalf("touched %v, %v", touched, err)
		}
		for range 100 {
			l.Refresh(alicesPhone, 1, time.Now().Add(time.Hour))
		}
		l.Unflow("f", time.Now())
		l.Reattach("f")
		l.Woken(alicesPhone, time.Now())
		dead(l, alicesPhone, "apns", "voip", "v1", "Unregistered", time.Time{})
		l.Unbind(alicesPhone, 2)
		if took := time.Since(start); took != 0 {
			t.Errorf("waited %v", took)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if store.puts != 1 {
			t.Errorf("%d writes for what one second brought", store.puts)
		}
		l.Remove(alicesPhone)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if all, _ := store.Load(t.Context()); len(all) != 0 || store.deletes != 1 {
			t.Error("the removal is not stored")
		}
	})
}

func TestWhatExpiresEndsInTimeWhileTheStoreIsSlow(t *testing.T) {
	test(t, &slow{}, func(t *testing.T, l *location.Location) {
		for _, aor := range []string{alice, bobs, "sip:carol@example.com"} {
			b := binding("f")
			b.AOR, b.Token, b.Expires = aor, aor, time.Now().Add(3*time.Second)
			if _, err := l.Place(b, nil, ""); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if devices, live := l.Count(); devices != 0 || live != 0 {
			t.Errorf("%d devices, %d live, want none", devices, live)
		}
	})
}

func TestARefreshIsStoredWithinASecondAndAtTheEnd(t *testing.T) {
	for name, wait := range map[string]time.Duration{"within a second": time.Second, "at the end": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &location.Memory{}
				until := time.Now().Add(2 * time.Hour)
				running(t, store, func(l *location.Location) {
					mustBind(t, l, binding("f"), voip("v1"))
					l.Refresh(alicesPhone, 1, until)
					time.Sleep(wait)
					synctest.Wait()
					if wait > 0 {
						wantStored(t, store, until)
					}
				})
				wantStored(t, store, until)
			})
		})
	}
}

func wantStored(t *testing.T, store location.Store, until time.Time) {
	t.Helper()
	l := location.New(location.Config{}, store, nil)
	if err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := l.Lookup(alice)
	if len(all) != 1 || !all[0].Bindings[0].Expires.Equal(until) {
		t.Errorf("stored: %v, want one until %v", all, until)
	}
}

func TestAFlowIsThereForOthersOnceItsClientIsAnswered(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		b := binding("f")
		b.Answering = true
		mustBind(t, l, b)
		if d := device(l, alicesPhone); d.Flow() != "" || d.FlowLost().IsZero() || len(l.ByFlow("f")) != 1 {
			t.Error("want no flow for others, and the binding on it for its client")
		}
		l.Answered(alicesPhone, 1, "another")
		if device(l, alicesPhone).Flow() != "" {
			t.Error("there by the answer on another flow")
		}
		l.Answered(alicesPhone, 1, "f")
		if d := device(l, alicesPhone); d.Flow() != "f" || !d.FlowLost().IsZero() {
			t.Errorf("answered: flow %q, lost %v", d.Flow(), d.FlowLost())
		}
		mustBind(t, l, b) // once more on the flow that is in use
		if device(l, alicesPhone).Flow() != "f" {
			t.Error("a flow in use is not there while its client registers again")
		}
		l.Unflow("f", time.Now())
		l.Answered(alicesPhone, 1, "f")
		if device(l, alicesPhone).Flow() != "" {
			t.Error("an answer brought a lost flow back")
		}
	})
}

func TestABindingWhoseFlowIsLostAlreadyIsFlowless(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		b := binding("f")
		b.FlowLost, b.Answering = time.Now(), true
		mustBind(t, l, b, voip("v1"))
		if d := device(l, alicesPhone); d.Flow() != "" || !d.FlowLost().Equal(b.FlowLost) || len(l.ByFlow("f")) != 0 {
			t.Error("the flow is there")
		}
		if len(l.Reattach("f")) != 1 || device(l, alicesPhone).Flow() != "f" {
			t.Error("the flow is not known again when an edge opens it again")
		}
	})
}
