package jetstream_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
)

func TestP18_CallsPassTenThousandQueuedNotes(t *testing.T) {
	alone, took, left := callsBeside(t, files{t.TempDir()}, crowd, callsMade)
	p99 := took[len(took)*99/100]
	t.Logf("beside %d queued notes p50 %v, p99 %v; alone p50 %v, p99 %v", left, took[len(took)/2], p99, alone[len(alone)/2], alone[len(alone)*99/100])
	if left < crowd/10 {
		t.Errorf("only %d notes were queued when the last call left: the queue was no crowd", left)
	}
	// On a machine that has other things to do, calls alone are late as well.
	if limit := max(callLimit, 4*alone[len(alone)*99/100]); p99 > limit {
		t.Errorf("99 of 100 calls were on the wire within %v, want %v", p99, limit)
	}
}

// answerTime is how long the simulator takes for a push.
const answerTime = 20 * time.Millisecond

// callsBeside makes calls one after the other, first alone and then while as
// many notes as it is told are queued and sent. It returns how long each took
// from the decision to the wire, sorted, and how many notes waited at the end.
func callsBeside(t *testing.T, f files, notes, calls int) (alone, beside []time.Duration, left int) {
	t.Helper()
	sim := simulator(t, f)
	sim.SetLatency(answerTime)
	p, err := newPusher(f)
	if err != nil {
		t.Fatal(err)
	}
	team := strings.Fields(f.read("app"))[2]
	alone = callTimes(t, sim, p, team, "alone", calls)
	var wg sync.WaitGroup
	for start := range 64 {
		wg.Go(func() {
			for i := start; i < notes; i += 64 {
				if err := p.push.Enqueue(t.Context(), targetOf(i, team), push.Note{
					Event: push.EventMessage, ID: fmt.Sprint("message", i), Conversation: "sip:carol@example.com", To: "sip:bob@example.com",
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stop := p.run(t)
	defer stop()
	until(t, "notes flow", func() bool { return len(accepted(sim, "alert")) >= 100 })
	beside = callTimes(t, sim, p, team, "beside", calls)
	return alone, beside, notes - len(accepted(sim, "alert"))
}

// callTimes makes calls and returns how long each took to the wire, sorted.
func callTimes(t *testing.T, sim *pushtest.APNs, p *pusher, team, name string, calls int) (took []time.Duration) {
	t.Helper()
	started := map[string]time.Time{}
	for i := range calls {
		call := push.Call{CallID: fmt.Sprint(name, i), FromURI: "sip:carol@example.com", To: "sip:bob@example.com"}
		started[push.CallUUID(call.CallID)] = time.Now()
		if r := p.push.Call(context.Background(), targetOf(i, team), call); r.Outcome != push.Accepted {
			t.Fatalf("call %d: %+v", i, r)
		}
	}
	for _, a := range sim.Accepted() {
		if at, ok := started[a.Call]; ok {
			took = append(took, a.At.Sub(at)-answerTime) // At is when it was answered
		}
	}
	if len(took) != calls {
		t.Fatalf("the provider saw %d calls, want %d", len(took), calls)
	}
	slices.Sort(took)
	return took
}
