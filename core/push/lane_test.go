package push_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/core/push"
)

// post is one push as its provider sees it.
type post struct {
	at    time.Duration // since the world began
	id    string
	token string
	count int
	n     push.Notification
}

// mailbox is a provider that keeps what it is sent, and when.
type mailbox struct {
	answer func(n push.Notification, nth int) push.Result // nil accepts

	start time.Time
	mu    sync.Mutex
	sent  []post // guarded by mu
}

// Send implements push.Sender.
func (m *mailbox) Send(_ context.Context, n push.Notification) push.Result {
	var p struct {
		Count int `json:"count"`
	}
	if err := json.Unmarshal(n.Payload, &p); err != nil {
		p.Count, _ = strconv.Atoi(n.Data["count"])
	}
	m.mu.Lock()
	nth := len(m.sent)
	m.sent = append(m.sent, post{at: time.Since(m.start), id: n.ID, token: n.Token.Value, count: max(p.Count, 1), n: n})
	m.mu.Unlock()
	if m.answer != nil {
		return m.answer(n, nth)
	}
	return push.Result{Outcome: push.Accepted, Status: 200}
}

func (m *mailbox) all() []post {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.sent)
}

// at lists when the pushes came.
func (m *mailbox) at() (all []time.Duration) {
	for _, p := range m.all() {
		all = append(all, p.at)
	}
	return all
}

// world is a service whose devices all have one token of a provider; "none" and
// "gone" have none.
type world struct {
	*push.Service
	t   *testing.T
	box *mailbox
	reg *prometheus.Registry
}

// inWorld runs f in a bubble with a service that runs.
func inWorld(t *testing.T, cfg push.Config, answer func(push.Notification, int) push.Result, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, box: &mailbox{answer: answer, start: time.Now()}, reg: prometheus.NewRegistry()}
		cfg.Enabled = true
		cfg.Targets = targets
		w.Service = push.New(cfg, []push.App{
			{ID: bundle, Provider: push.ProviderAPNs, TeamID: team, Sender: w.box},
			{ID: bundle, Provider: push.ProviderFCM, Project: "example-project", Sender: w.box},
		}, nil, w.reg)
		stop := running(t, w.Service)
		defer stop()
		f(w)
	})
}

func targets(device string) (push.Target, bool) {
	t := push.Target{Device: device}
	switch {
	case device == "gone":
		return t, false
	case device == "none":
	case strings.HasPrefix(device, "android"):
		t.Tokens = []push.Token{{Provider: push.ProviderFCM, Param: "example-project", Value: device + "-token-of-some-length"}}
	default:
		t.Tokens, t.Class = []push.Token{apnsToken(push.KindVoIP, device), apnsToken(push.KindAlert, device)}, push.ClassSplit
	}
	return t, true
}

func (w *world) post(device string, n push.Note) (ended func() push.Result) {
	w.t.Helper()
	target, _ := targets(device)
	var mu sync.Mutex
	var end push.Result
	w.Post(target, n, func(r push.Result) {
		mu.Lock()
		defer mu.Unlock()
		if end.Outcome != "" {
			w.t.Errorf("done twice: %+v, %+v", end, r)
		}
		end = r
	})
	return func() push.Result {
		mu.Lock()
		defer mu.Unlock()
		return end
	}
}

// count compares the counter of what became of notes.
func (w *world) count(want string) {
	w.t.Helper()
	text := "# HELP sallyport_push_queue_total Notes on the message lane by what became of them.\n# TYPE sallyport_push_queue_total counter\n"
	for _, line := range strings.Fields(want) {
		end, n, _ := strings.Cut(line, "=")
		text += fmt.Sprintf("sallyport_push_queue_total{end=%q} %s\n", end, n)
	}
	if err := testutil.GatherAndCompare(w.reg, strings.NewReader(text), "sallyport_push_queue_total"); err != nil {
		w.t.Error(err)
	}
}

// message is the nth message of a conversation.
func message(conversation string, nth int) push.Note {
	return push.Note{
		Event: push.EventMessage, ID: fmt.Sprintf("%s/%d", conversation, nth), Conversation: conversation,
		FromURI: conversation, To: "sip:bob@example.com",
	}
}

// within passes time, and lets everything come to rest.
func within(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestP17_ABurstOfMessagesIsFewPushesAndTheirCountIsRight(t *testing.T) {
	inWorld(t, push.Config{}, nil, func(w *world) {
		for i := range 200 {
			w.post("bob", message("sip:carol@example.com", i))
			time.Sleep(50 * time.Millisecond)
		}
		within(time.Minute)
		all := w.box.all()
		if len(all) > 6 {
			t.Errorf("%d pushes at %v, want at most 6", len(all), w.box.at())
		}
		if all[0].at != 0 {
			t.Errorf("the first left after %v, want at once", all[0].at)
		}
		last := all[len(all)-1]
		if last.count != 200 || last.at > 40*time.Second {
			t.Errorf("the last push, after %v, counts %d messages, want 200", last.at, last.count)
		}
		for i := 1; i < len(all); i++ {
			if gap := all[i].at - all[i-1].at; gap < 2*time.Second {
				t.Errorf("pushes %d and %d are %v apart, want at least 2 s", i-1, i, gap)
			}
			if all[i].count <= all[i-1].count || all[i].id == all[i-1].id {
				t.Errorf("push %d is no news after %d", i, i-1)
			}
		}
		w.count(fmt.Sprintf("coalesced=%d done=200", 200-len(all)))
	})
}

func TestP17_ChatsAreMergedApart(t *testing.T) {
	inWorld(t, push.Config{}, nil, func(w *world) {
		for i := range 10 {
			for _, chat := range []string{"a", "b", "c"} {
				w.post("bob", message(chat, i))
			}
			w.post("eve", message("a", i))
		}
		within(time.Minute)
		counts := map[string][]int{}
		for _, p := range w.box.all() {
			key := p.token + p.n.CollapseID
			counts[key] = append(counts[key], p.count)
		}
		if len(counts) != 4 {
			t.Errorf("%d chats on two devices, want 4: %v", len(counts), counts)
		}
		for chat, got := range counts {
			if got[0] != 1 && got[0] != 10 || got[len(got)-1] != 10 || len(got) > 2 {
				t.Errorf("chat %s counted %v, want at most two pushes, 10 at last", chat, got)
			}
		}
	})
}

func TestP17_AMentionPassesTheWindowOnce(t *testing.T) {
	inWorld(t, push.Config{}, nil, func(w *world) {
		w.post("bob", message("chat", 0))
		within(0)
		w.post("bob", message("chat", 1))
		within(500 * time.Millisecond)
		for i := 2; i < 5; i++ {
			mention := message("chat", i)
			mention.Urgent = true
			w.post("bob", mention)
			within(100 * time.Millisecond)
		}
		within(time.Minute)
		want := []time.Duration{0, 500 * time.Millisecond, 2 * time.Second}
		if got := w.box.at(); !slices.Equal(got, want) {
			t.Errorf("pushes at %v, want %v: the first, the first mention, the window's end", got, want)
		}
		if all := w.box.all(); all[1].count != 3 || all[2].count != 5 {
			t.Errorf("counts %d and %d, want 3 and 5", all[1].count, all[2].count)
		}
	})
}

func TestASilentChatBeginsAtOnceAgain(t *testing.T) {
	inWorld(t, push.Config{}, nil, func(w *world) {
		for i := range 5 {
			w.post("bob", message("chat", i))
			within(10 * time.Second)
		}
		want := []time.Duration{0, 10 * time.Second, 20 * time.Second, 30 * time.Second, 40 * time.Second}
		if got := w.box.at(); !slices.Equal(got, want) {
			t.Errorf("pushes at %v, want %v", got, want)
		}
	})
}

func TestTheWindowGrowsToHalfAMinute(t *testing.T) {
	inWorld(t, push.Config{}, nil, func(w *world) {
		for i := range 600 {
			w.post("bob", message("chat", i))
			time.Sleep(500 * time.Millisecond)
		}
		at := w.box.at()
		var gaps []time.Duration
		for i := 1; i < 8; i++ {
			gaps = append(gaps, at[i]-at[i-1])
		}
		s := time.Second
		if want := []time.Duration{2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s, 30 * s}; !slices.Equal(gaps, want) {
			t.Errorf("gaps %v, want %v", gaps, want)
		}
	})
}

func TestADeviceGetsNoMoreThanItsCapAndAMentionPassesItOnce(t *testing.T) {
	inWorld(t, push.Config{PerMinute: 5}, nil, func(w *world) {
		for i := range 12 {
			w.post("bob", message(fmt.Sprint("chat", i), 0))
		}
		for i := range 3 {
			mention := message(fmt.Sprint("mention", i), 0)
			mention.Urgent = true
			w.post("bob", mention)
		}
		w.post("eve", message("chat", 0))
		within(10 * time.Second)
		if n := len(w.box.all()); n != 7 {
			t.Errorf("%d pushes in the first seconds, want 5, a mention, and the other device's", n)
		}
		within(5 * time.Minute)
		all := w.box.all()
		if len(all) != 16 {
			t.Fatalf("%d pushes, want all 16 in the end", len(all))
		}
		byMinute := map[int]int{}
		for _, p := range all {
			byMinute[int(p.at/time.Minute)]++
		}
		if byMinute[1] > 6 || byMinute[2] > 6 {
			t.Errorf("pushes by minute %v, want at most 5 and a mention", byMinute)
		}
		w.count("done=16")
	})
}

func TestANoteIsSentOnceHoweverOftenItIsPosted(t *testing.T) {
	inWorld(t, push.Config{}, func(_ push.Notification, nth int) push.Result {
		if nth == 0 {
			return push.Result{Outcome: push.ProviderDown, Reason: "connection refused"}
		}
		return push.Result{Outcome: push.Accepted, Status: 200}
	}, func(w *world) {
		missed := push.Note{Event: push.EventMissed, CallID: "call", FromURI: "sip:carol@example.com", To: "sip:bob@example.com"}
		one := w.post("bob", missed)
		within(time.Second)
		two := w.post("bob", missed) // the first waits for its second attempt
		other := missed
		other.CallID = "another"
		w.post("bob", other)
		within(time.Minute)
		all := w.box.all()
		ids := map[string]int{}
		for _, p := range all {
			ids[p.id]++
		}
		if len(all) != 3 || len(ids) != 2 || ids[all[0].id] != 2 {
			t.Errorf("ids of the pushes %v, want one sent again and one of the other call", ids)
		}
		wantOutcome(t, one(), push.Accepted)
		wantOutcome(t, two(), push.Accepted)
	})
}
