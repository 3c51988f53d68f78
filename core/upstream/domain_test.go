package upstream

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// reached is the server that a key is led to; tried are those that were.
func (w *world) reached(key string, tried ...*Conn) string {
	c, err := w.up.Conn(within(w.t, 10*time.Second), "example.com", key, tried...)
	if err != nil {
		return err.Error()
	}
	return c.Remote().String()
}

// farm is a domain whose DNS knows two ranks of servers.
func farm(w *world) {
	w.names["a"], w.names["b"], w.names["c"] = "10.0.0.2", "10.0.0.3", "10.0.0.4"
	w.srv["_sip._tcp.example.com"] = []*net.SRV{
		{Target: "a.", Port: 5070, Priority: 1, Weight: 3}, {Target: "b.", Port: 5071, Priority: 1, Weight: 1},
		{Target: "gone.", Port: 1, Priority: 1, Weight: 1}, {Target: "c.", Port: 5080, Priority: 2, Weight: 1},
	}
}

var farmed = Config{Upstreams: map[string][]string{"example.com": {"sip:example.com", "sip:10.0.0.7"}}}

func TestRFC3263_SRVPriorityAndWeightDecideWhereNoPortIsGiven(t *testing.T) {
	inWorld(t, farmed, func(t *testing.T, w *world) {
		synctest.Wait()
		count := map[string]int{}
		for i := range 400 {
			key := fmt.Sprintf("sip:user%d@example.com", i)
			at := w.reached(key)
			if again := w.reached(key); again != at {
				t.Fatalf("%s is led to %s, then to %s", key, at, again)
			}
			count[at]++
		}
		if a, b := count["10.0.0.2:5070"], count["10.0.0.3:5071"]; a+b != 400 || a < 260 || a > 340 {
			t.Errorf("3 to 1 is wanted: %v", count)
		}
	}, farm)
}

func TestRFC3263_TheNextServerIsTriedAndNoneTwice(t *testing.T) {
	inWorld(t, farmed, func(t *testing.T, w *world) {
		synctest.Wait()
		var tried []*Conn
		var order []string
		for range 4 {
			c, err := w.up.Conn(t.Context(), "example.com", "sip:alice@example.com", tried...)
			if err != nil {
				t.Fatal(err)
			}
			tried, order = append(tried, c), append(order, c.Remote().String())
		}
		slices.Sort(order[:2]) // of one priority
		if want := []string{"10.0.0.2:5070", "10.0.0.3:5071", "10.0.0.4:5080", "10.0.0.7:5060"}; !slices.Equal(order, want) {
			t.Errorf("tried %v, want %v", order, want)
		}
		if _, err := w.up.Conn(t.Context(), "example.com", "sip:alice@example.com", tried...); !errors.Is(err, ErrUnreachable) {
			t.Errorf("a fifth server: %v", err)
		}
	}, farm)
}

func TestAServerThatIsDownIsPassedOverUntilItIsBack(t *testing.T) {
	inWorld(t, farmed, func(t *testing.T, w *world) {
		w.setRefuse("10.0.0.3:5071", nil)
		time.Sleep(time.Minute)
		if at := w.reached("k"); at != "10.0.0.3:5071" {
			t.Errorf("the better server is back: %s", at)
		}
		if seen := w.seen.reached(); seen != "" {
			t.Errorf("the domain was reachable all the time: %s", seen)
		}
	}, farm, func(w *world) {
		for _, a := range []string{"10.0.0.2:5070", "10.0.0.3:5071"} {
			w.refuse[a] = errors.New("connection refused")
		}
	})
}

func TestFromAServerThatGoesAllGoToTheNext(t *testing.T) {
	two := Config{Upstreams: map[string][]string{"example.com": {"sip:10.0.0.1", "sip:10.0.0.2"}}}
	inWorld(t, two, func(t *testing.T, w *world) {
		synctest.Wait()
		w.setRefuse("10.0.0.1:5060", errors.New("connection refused"))
		w.hangUp("10.0.0.1:5060")
		synctest.Wait()
		start := time.Now()
		if at := w.reached("k"); at != "10.0.0.2:5060" || time.Since(start) != 0 {
			t.Errorf("%s after %v", at, time.Since(start))
		}
		st := w.up.Status()[0]
		if !st.Up || st.Upstream != "sip:10.0.0.2" || len(st.Servers) != 2 || st.Servers[0].Up || !st.Servers[1].Up ||
			!strings.Contains(st.Servers[0].LastError, "connection refused") {
			t.Errorf("status %+v", st)
		}
		w.setRefuse("10.0.0.1:5060", nil)
		time.Sleep(time.Minute)
		if at := w.reached("k"); at != "10.0.0.1:5060" {
			t.Errorf("after its return: %s", at)
		}
	})
}

func TestTheHandlerHearsWhenNoServerIsLeftAndWhenOneIsBack(t *testing.T) {
	two := Config{Upstreams: map[string][]string{"example.com": {"sip:10.0.0.1", "sip:10.0.0.2"}}}
	inWorld(t, two, func(t *testing.T, w *world) {
		synctest.Wait()
		w.hangUp("10.0.0.1:5060") // and takes the next connection at once
		synctest.Wait()
		if seen := w.seen.reached(); seen != "" {
			t.Errorf("a connection that only dropped: %s", seen)
		}
		w.setRefuse("*", errors.New("connection refused"))
		w.hangUp("10.0.0.2:5060")
		synctest.Wait()
		if seen := w.seen.reached(); seen != "" {
			t.Errorf("one is left: %s", seen)
		}
		time.Sleep(10 * time.Second) // the first may be dropped for good now
		w.hangUp("10.0.0.1:5060")
		synctest.Wait()
		if seen := w.seen.reached(); seen != "example.com down" {
			t.Errorf("none is left: %s", seen)
		}
		time.Sleep(time.Minute)
		w.setRefuse("10.0.0.1:5060", errors.New("connection refused"))
		w.setRefuse("*", nil)
		time.Sleep(time.Minute)
		if seen := w.seen.reached(); seen != "example.com down, example.com up" {
			t.Errorf("one is back: %s", seen)
		}
	})
}

func TestADomainThatIsUnreachableFromTheStartIsSaidToBeToo(t *testing.T) {
	inWorld(t, pbxOnlyConfig, func(t *testing.T, w *world) {
		synctest.Wait()
		if seen := w.seen.reached(); seen != "example.com down" {
			t.Errorf("heard %q", seen)
		}
	}, func(w *world) { w.refuse["*"] = errors.New("connection refused") })
	inWorld(t, Config{Upstreams: map[string][]string{"example.com": {"sip:nowhere.example"}}}, func(t *testing.T, w *world) {
		synctest.Wait()
		if seen := w.seen.reached(); seen != "example.com down" {
			t.Errorf("a name that does not resolve: heard %q", seen)
		}
		w.setName("nowhere.example", "10.0.0.1")
		time.Sleep(3 * time.Second)
		if seen := w.seen.reached(); seen != "example.com down, example.com up" {
			t.Errorf("a name that resolves again: heard %q", seen)
		}
	})
}

// While a domain is down nobody waits for it longer than a second.
func TestACallerOfADomainThatIsDownWaitsASecondAtMost(t *testing.T) {
	inWorld(t, pbxOnlyConfig, func(t *testing.T, w *world) {
		w.far()
		w.setRefuse("*", errors.New("no route to host"))
		w.hangUp("10.0.0.9:5060")
		time.Sleep(40 * time.Second)
		w.mu.Lock()
		w.gate = make(chan struct{}) // now it is a black hole
		gate := w.gate
		w.mu.Unlock()
		start := time.Now()
		_, err := w.up.Conn(t.Context(), "example.com", "")
		if un, ok := errors.AsType[*UnreachableError](err); !ok || un.Domain != "example.com" || time.Since(start) > time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		close(gate)
	})
}

func TestAServerThatAsksToBeLeftAloneIs(t *testing.T) {
	two := Config{Upstreams: map[string][]string{"example.com": {"sip:10.0.0.1", "sip:10.0.0.2"}}}
	inWorld(t, two, func(t *testing.T, w *world) {
		synctest.Wait()
		first, err := w.up.Conn(within(t, time.Second), "example.com", "")
		if err != nil {
			t.Fatal(err)
		}
		w.up.Away(first, 30*time.Second)
		if at := w.reached(""); at != "10.0.0.2:5060" {
			t.Errorf("led to %s", at)
		}
		if c, err := w.up.Dial(t.Context(), "tcp:10.0.0.1:5060"); err != nil || c != first {
			t.Errorf("its dialogs go on: %v, %v", c, err)
		}
		second, _ := w.up.Conn(t.Context(), "example.com", "")
		w.up.Away(second, time.Hour)
		_, err = w.up.Conn(t.Context(), "example.com", "")
		if un, ok := errors.AsType[*UnreachableError](err); !ok || un.Retry != 30*time.Second {
			t.Errorf("both are away: %v", err)
		}
		if st := w.up.Status()[0]; st.Up || !strings.Contains(st.LastError, "left alone") {
			t.Errorf("status %+v", st)
		}
		time.Sleep(30 * time.Second)
		if at := w.reached(""); at != "10.0.0.1:5060" {
			t.Errorf("after its time: %s", at)
		}
		time.Sleep(maxAway - 30*time.Second)
		if at := w.reached("", first); at != "10.0.0.2:5060" {
			t.Errorf("an hour is cut to %v: %s", maxAway, at)
		}
		if seen := w.seen.reached(); seen != "" {
			t.Errorf("away is not unreachable: %s", seen)
		}
	})
}

func TestAServerThatMovedIsFollowedAndItsConnectionLingers(t *testing.T) {
	inWorld(t, pbxOnlyConfig, func(t *testing.T, w *world) {
		old, err := w.up.Conn(within(t, time.Second), "example.com", "")
		if err != nil {
			t.Fatal(err)
		}
		w.setName("pbx.example.com", "10.0.0.10")
		time.Sleep(time.Minute + time.Second)
		if at := w.reached(""); at != "10.0.0.10:5060" {
			t.Errorf("led to %s", at)
		}
		if old.isClosing() {
			t.Error("what began on the old connection was cut off")
		}
		time.Sleep(lingering)
		synctest.Wait()
		if !old.isClosing() {
			t.Error("the old connection stays for ever")
		}
	})
}
