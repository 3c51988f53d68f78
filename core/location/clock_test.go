package location_test

import (
	"context"
	"regexp"
	"testing"
	"time"

	"sallyport/core/location"
)

// Within one life of the core, times carry the monotonic clock, which nobody
// sets. What a store holds has the clock on the wall alone: a core that starts
// after that was set finds times of long ago, or of the future.

// otherClock is a store as a core sees it whose clock was set meanwhile: a
// clock set forward makes everything older.
type otherClock struct {
	location.Store
	set time.Duration
}

var stamp = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*Z"`)

func (o otherClock) Load(ctx context.Context) (map[string][]byte, error) {
	all, err := o.Store.Load(ctx)
	for key, value := range all {
		all[key] = stamp.ReplaceAllFunc(value, func(s []byte) []byte {
			at, err := time.Parse(`"`+time.RFC3339Nano+`"`, string(s))
			if err != nil || at.IsZero() {
				return s
			}
			return at.Add(-o.set).AppendFormat(nil, `"`+time.RFC3339Nano+`"`)
		})
	}
	return all, err
}

func TestNoDeviceIsLostWhenTheClockIsSet(t *testing.T) {
	for name, set := range map[string]time.Duration{"forward by 6 h": 6 * time.Hour, "back by 6 h": -6 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			store := &location.Memory{}
			test(t, store, func(t *testing.T, l *location.Location) {
				mustBind(t, l, granted("f", 24*time.Hour), voip("v1"), alert("a1"))
				time.Sleep(time.Minute)
				running(t, otherClock{store, set}, func(l *location.Location) {
					wantTokens(t, l, alicesPhone, "v1", "a1")
					if _, _, ok := l.ByToken("T0KEN"); !ok {
						t.Error("the PBX's contact leads nowhere")
					}
					time.Sleep(20 * 24 * time.Hour)
					wantTokens(t, l, alicesPhone, "v1", "a1")
				})
			})
		})
	}
}

// granted is a binding that the PBX has granted for a time.
func granted(flow string, grant time.Duration) location.Binding {
	b := binding(flow)
	b.Granted, b.Registered = time.Now(), time.Now()
	b.GrantEnds = b.Granted.Add(grant)
	return b
}

// A PBX counts what it granted by its own clock. One that began in the future
// would last for too long here, and calls would find nobody there.
func TestAGrantOfTheFutureIsNone(t *testing.T) {
	store := &location.Memory{}
	test(t, store, func(t *testing.T, l *location.Location) {
		mustBind(t, l, granted("f", time.Hour), voip("v1"))
		running(t, otherClock{store, -6 * time.Hour}, func(l *location.Location) {
			_, b, _ := l.ByToken("T0KEN")
			if left := time.Until(b.GrantEnds); left > 0 {
				t.Errorf("the grant lasts another %v", left)
			}
			if b.Registered.After(time.Now()) {
				t.Errorf("registered in %v", time.Until(b.Registered))
			}
			if len(l.Reattach("f")) != 1 {
				t.Error("the flow has lost its binding")
			}
		})
	})
}

// The newest registration is the newest, though the one before was of a time
// that has not come yet.
func TestWhoRegistersAfterTheClockWasSetBackIsTheNewest(t *testing.T) {
	store := &location.Memory{}
	test(t, store, func(t *testing.T, l *location.Location) {
		mustBind(t, l, granted("f", time.Hour), voip("v1"))
		running(t, otherClock{store, -6 * time.Hour}, func(l *location.Location) {
			time.Sleep(time.Second)
			b := granted("g", time.Hour)
			b.RegID, b.Token = 2, "OTHER"
			mustBind(t, l, b, voip("v1"))
			if d := device(l, alicesPhone); d.Bindings[0].RegID != 2 {
				t.Errorf("the newest binding is reg-id %d, want 2", d.Bindings[0].RegID)
			}
			dead(l, alicesPhone, "apns", "voip", "v1", "Unregistered", time.Now().Add(time.Minute))
			if d := device(l, alicesPhone); !d.Tokens[0].Dead {
				t.Error("a token of the future cannot die")
			}
		})
	})
}
