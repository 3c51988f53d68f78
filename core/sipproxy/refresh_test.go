package sipproxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/location"
	"sallyport/core/push"
	"sallyport/core/wake"
)

// PN-9: who sleeps is asked to register before the PBX forgets.

const refreshMargin = 10 * time.Minute

// granted is how long the PBX of these stories keeps a phone.
const granted = 2 * time.Hour

func refreshing(c *Config) { c.RefreshMargin, c.Domains[0].UpstreamExpires = refreshMargin, granted }

// asks returns when each wish to register was sent, and fails if anything else
// was.
func (w *town) wishes() (at []time.Time) {
	w.t.Helper()
	synctest.Wait()
	w.pushes.mu.Lock()
	defer w.pushes.mu.Unlock()
	if len(w.pushes.calls) > 0 {
		w.t.Errorf("%d VoIP pushes left", len(w.pushes.calls))
	}
	for _, n := range w.pushes.notes {
		if n.Event != wake.EventRegister {
			w.t.Errorf("a note says %q", n.Event)
		}
		at = append(at, n.Sent)
	}
	return at
}

func TestPN9_ASleepingDeviceIsAskedToRegisterInTime(t *testing.T) {
	for _, path := range []bool{false, true} {
		for _, provider := range []string{"apns", "fcm", "webpush"}[:map[bool]int{false: 3, true: 1}[path]] {
			inTown(t, func(t *testing.T, w *town) {
				ph := w.phone("alice", "tls").of(provider)
				ends := time.Now().Add(granted)
				ph.awake()
				ph.sleeps()
				pass(granted - refreshMargin*3/2 - 2*time.Minute)
				if got := w.wishes(); len(got) != 0 {
					t.Fatalf("asked %v before the end", ends.Sub(got[0]))
				}
				pass(refreshMargin/2 + 3*time.Minute)
				got := w.wishes()
				if len(got) != 1 || ends.Sub(got[0]) < refreshMargin || ends.Sub(got[0]) > refreshMargin*3/2+2*refreshSlot {
					t.Fatalf("asked at %v, for what ends at %v", got, ends)
				}
				if n := w.pushes.notes[0]; n.To != "sip:alice@example.com" || n.Expires.Sub(ends).Abs() > time.Minute {
					t.Errorf("the push says %+v", n)
				}
				ph.wakes()
				pass(time.Second)
				ph.sleeps()
				if path || provider != "apns" {
					return // the rest is the same for all
				}
				pass(granted - refreshMargin*2) // a new grant
				if got = w.wishes(); len(got) != 1 {
					t.Errorf("asked %d times", len(got))
				}
				pass(granted) // it does not come: asked twice, and no more
				if got = w.wishes(); len(got) != 3 {
					t.Errorf("asked %d times", len(got)-1)
				}
				if before := ph.grantEnds().Sub(got[2]); before < pushLead {
					t.Errorf("asked %v before the end, when it is too late", before)
				}
				pass(granted)
				if n := len(w.wishes()); n != 3 || len(w.proxy.renewals.of) != 0 {
					t.Errorf("%d pushes; %d devices are in the calendar though the PBX has forgotten them", n, len(w.proxy.renewals.of))
				}
			}, refreshing, func(c *Config) { c.Domains[0].Path = path })
		}
	}
}

func (ph *phone) grantEnds() time.Time {
	d, _ := ph.w.loc.Device(ph.id())
	return d.Bindings[0].GrantEnds
}

func TestPN9_WhoIsThereOrCannotBeAskedIsNotPushed(t *testing.T) {
	for name, story := range map[string]func(w *town, ph *phone){
		"a live flow":    func(_ *town, ph *phone) { ph.connects().registers("Expires: 7200") },
		"one VoIP token": func(_ *town, ph *phone) { ph.push = strings.Replace(apns, "&bb22:remote", "", 1); ph.awake().sleeps() },
		"no token":       func(_ *town, ph *phone) { ph.push = ""; ph.awake().sleeps() },
		"who has left":   func(w *town, ph *phone) { ph.awake().say(ph.register("Expires: 0")...); w.accepts(); ph.sleeps() },
		"stands alone":   func(w *town, _ *phone) { w.places("sip:bob@demo.example", time.Now().Add(granted)) },
		"margin 0":       func(w *town, ph *phone) { ph.awake().sleeps(); w.restart(func(c *Config) { c.RefreshMargin = 0 }) },
		"push off":       func(w *town, ph *phone) { ph.awake().sleeps(); w.restart(func(c *Config) { c.PushEnabled = false }) },
		"the PBX is away": func(w *town, ph *phone) {
			ph.awake().sleeps()
			pass(granted - 30*time.Minute)
			w.pbxDown.Store(true)
			w.pbx.conn.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTown(t, func(t *testing.T, w *town) {
				story(w, w.phone("alice", "tls"))
				pass(granted + time.Hour)
				if n := len(w.wishes()); n != 0 {
					t.Errorf("asked %d times", n)
				}
				w.pbxDown.Store(false)
				pass(10 * time.Minute)
			}, refreshing)
		})
	}
}

func TestPN9_AClientThatWakesByItselfIsAskedOnlyIfItDidNot(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").connects()
		ph.contact = "<" + ph.uri() + apns + `>;+sip.instance="<` + ph.urn + `>";reg-id=1;+sip.pnsreg`
		for range 2 { // it registers 10 min before the end
			ph.registers()
			ph.sleeps()
			pass(granted - 10*time.Minute)
			ph.connects()
		}
		if n := len(w.wishes()); n != 0 {
			t.Fatalf("asked %d times, though it registered by itself", n)
		}
		ph.sleeps()
		ends := ph.grantEnds()
		pass(time.Until(ends) - pushLead - time.Second)
		if n := len(w.wishes()); n != 0 {
			t.Errorf("asked too early")
		}
		pass(2 * refreshSlot)
		if n := len(w.wishes()); n != 1 {
			t.Errorf("asked %d times", n)
		}
	}, refreshing)
}

func TestPN9_ARestartForgetsNobody(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.phone("alice", "tls").asleep()
		pass(granted - 30*time.Minute)
		w.restart()
		pass(granted)
		if n := len(w.wishes()); n != refreshAsks {
			t.Errorf("asked %d times", n)
		}
	}, refreshing)
}

func TestPN9_TenThousandWhoseBindingsEndTogetherAreAskedAtABoundedRate(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		const n = 10000
		ends := time.Now().Add(granted)
		for i := range n {
			w.places(fmt.Sprintf("sip:u%d@example.com", i), ends)
		}
		pass(granted - pushLead)
		at := w.wishes()
		slices.SortFunc(at, time.Time.Compare)
		asked := map[string]bool{}
		for _, device := range w.pushes.noted {
			asked[device] = true
		}
		if len(asked) != n {
			t.Errorf("%d of %d devices were asked in time", len(asked), n)
		}
		most := 0
		for i := range at {
			j, _ := slices.BinarySearchFunc(at, at[i].Add(time.Second), time.Time.Compare)
			most = max(most, j-i)
		}
		if most > refreshPerSecond+1 {
			t.Errorf("%d were asked within a second", most)
		}
	}, refreshing)
}

// places enters a device that sleeps, whose binding at the PBX ends then.
func (w *town) places(aor string, ends time.Time) {
	w.t.Helper()
	now := time.Now()
	_, err := w.loc.Place(location.Binding{
		AOR: aor, Instance: "urn:x", Contact: "<sip:u@h>", URI: "sip:u@h", Token: "token of " + aor, Registered: now,
		Expires: now.Add(time.Hour), Granted: now, GrantEnds: ends,
	}, []location.Token{{Provider: push.ProviderFCM, Kind: "alert", Param: "project", Value: "token of " + aor}}, "")
	if err != nil {
		w.t.Fatal(err)
	}
	w.proxy.renew(location.DeviceID{AOR: aor, Instance: "urn:x"})
}

func TestPN9_AClockThatIsSetBackDelaysNobody(t *testing.T) {
	var r renewals
	now := time.Now()
	r.take(now.Add(24 * time.Hour)) // the machine started with a wrong clock
	r.take(now)
	alice := location.DeviceID{AOR: "sip:alice@example.com", Instance: "one"}
	r.enter(alice, now.Add(time.Hour))
	if due := r.take(now.Add(time.Hour + refreshSlot)); len(due) != 1 {
		t.Errorf("an hour later %d devices are due", len(due))
	}
}

func TestPN9_ADeviceIsTakenOnceHoweverOftenItsTimeWasMoved(t *testing.T) {
	var r renewals
	now := time.Now()
	r.take(now)
	alice := location.DeviceID{AOR: "sip:alice@example.com", Instance: "one"}
	late := now.Add(time.Hour)
	r.enter(alice, late)
	r.enter(alice, now.Add(time.Minute)) // a shorter grant
	if due := r.take(now.Add(2 * time.Minute)); len(due) != 1 {
		t.Fatalf("%d devices are due", len(due))
	}
	r.keep(alice, late)
	if due := r.take(late.Add(refreshSlot)); len(due) != 1 {
		t.Errorf("due are %v", due)
	}
}
