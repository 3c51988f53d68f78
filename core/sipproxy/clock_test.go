package sipproxy

import (
	"context"
	"regexp"
	"testing"
	"time"

	"sallyport/core/location"
)

// Clocks are set: by NTP at last, by a virtual machine that was paused, by
// hand. Within one life of the core nothing notices, since all it waits for is
// counted by the monotonic clock; these are the stories of one that starts
// after that.

// otherClock is a store as a core sees it whose clock was set meanwhile.
type otherClock struct {
	location.Store
	set time.Duration
}

var stamped = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*Z"`)

func (o otherClock) Load(ctx context.Context) (map[string][]byte, error) {
	all, err := o.Store.Load(ctx)
	for key, value := range all {
		all[key] = stamped.ReplaceAllFunc(value, func(s []byte) []byte {
			at, err := time.Parse(`"`+time.RFC3339Nano+`"`, string(s))
			if err != nil || at.IsZero() {
				return s
			}
			return at.Add(-o.set).AppendFormat(nil, `"`+time.RFC3339Nano+`"`)
		})
	}
	return all, err
}

// setClock restarts the core with another clock.
func (w *town) setClock(by time.Duration) {
	w.t.Helper()
	w.store = otherClock{w.store, by}
	w.restart()
}

// clocks tells a story for a clock that is set forward, and one set back.
func clocks(t *testing.T, nobody func(*testing.T, *town, *phone), some func(t *testing.T, w *town, phones []*phone, set time.Duration)) {
	for name, set := range map[string]time.Duration{"forward by 6 h": 6 * time.Hour, "back by 6 h": -6 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			forEachCrew(t, nobody, func(t *testing.T, w *town, phones []*phone) { some(t, w, phones, set) })
		})
	}
}

func TestASleepingPhoneIsWokenThoughTheClockWasSet(t *testing.T) {
	clocks(t, comesTooLate, func(t *testing.T, w *town, phones []*phone, set time.Duration) {
		w.asleep(phones)
		token := w.token(phones[0])
		w.setClock(set)
		c := w.callsAt("sip:"+token+"@"+advertise, "by-contact")
		w.pushed(1)
		phones[0].wakes()
		phones[0].refuses(phones[0].rings("by-contact"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
		phones[0].sleeps()
		d := w.calls("by-aor")
		w.pushed(1 + len(phones))
		for _, ph := range phones {
			ph.wakes()
			ph.refuses(ph.rings("by-aor"), 486)
			d.hears("SIP/2.0 180")
		}
		d.ends(486)
	})
}

// A flow outlives the core. If its registration is over by the new clock, its
// client is told to come again; otherwise it rings, and its next REGISTER goes
// to the PBX, whose grant may be over by the PBX's clock.
func TestAFlowIsNotLostWhenTheClockWasSet(t *testing.T) {
	clocks(t, strangersFlowEnds, func(t *testing.T, w *town, phones []*phone, set time.Duration) {
		for _, ph := range phones {
			ph.awake()
		}
		w.setClock(set)
		for _, ph := range phones {
			switch {
			case set < 0 && ph.ended == "":
				ph.registers() // heard by the PBX
			case set > 0 && ph.ended == "reconnect":
				ph.wakes()
			default:
				t.Fatalf("the flow's end is %q", ph.ended)
			}
		}
		c := w.calls("call-1")
		for _, ph := range phones {
			ph.refuses(ph.rings("call-1"), 486)
			c.hears("SIP/2.0 180")
			ph.silence()
		}
		c.ends(486)
		w.pushed(len(phones))
	})
}
