package wake_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push"
	"sallyport/core/wake"
)

// asleep is a Pusher whose devices are not to be disturbed.
type asleep struct{ provider }

func (*asleep) QuietCall(push.Target, push.Call) push.Ruling {
	return push.Ruling{Hold: true, Reason: "quiet hours until 07:00 (UTC)"}
}

func TestP30_ACallInQuietHoursEndsAtOnceWithoutAPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &asleep{provider{result: accepted()}}
		w := wake.New(wake.Config{Window: window}, p, nil, nil)
		start := time.Now()
		var steps []string
		out, err := w.Call(t.Context(), bob(), push.Call{CallID: "1"}, func(step, detail string) { steps = append(steps, step+" "+detail) })
		if !errors.Is(err, wake.ErrQuiet) || out.Pushed || !time.Now().Equal(start) {
			t.Errorf("%+v, %v", out, err)
		}
		if want := []string{"push_refused quiet hours until 07:00 (UTC)"}; !slices.Equal(steps, want) {
			t.Errorf("steps %q", steps)
		}
		result := make(chan push.Result, 1)
		w.Announce(bob(), push.Call{CallID: "2"}, nil, func(r push.Result) { result <- r })
		if r := <-result; r.Outcome != push.Quiet || r.Reason != "quiet hours until 07:00 (UTC)" {
			t.Errorf("announced: %+v", r)
		}
		if pushes := p.begun(); len(pushes) != 0 {
			t.Errorf("pushed %q", pushes)
		}
	})
}

func TestP30_ADeviceThatIsBackRingsInQuietHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := wake.New(wake.Config{Window: window, Flow: func(string) string { return "flow" }}, &asleep{}, nil, nil)
		out, err := w.Call(t.Context(), bob(), push.Call{CallID: "1"}, nil)
		if err != nil || out.Flow != "flow" {
			t.Errorf("%+v, %v", out, err)
		}
	})
}
