package push_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/core/push"
)

// telling is a Sender that tells its condition and explains itself.
type telling struct {
	fake
	mu  sync.Mutex
	now push.Condition // guarded by mu
}

func (s *telling) Condition() push.Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *telling) is(c push.Condition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = c
}

func (*telling) Explain(t push.Token, c push.Channel) []push.Fact {
	return []push.Fact{{Name: "topic", Value: "org.example.phone." + string(c)}}
}

// text is a log that a test reads while it is written.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (w *text) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *text) lines(about string) (found []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(w.b.String()) {
		if strings.Contains(line, about) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func debugLog(w *text) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestAnAlarmIsLoggedOnceWithItsRemedyAndShownWhileItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app, log := &telling{}, &text{}
		s := push.New(push.Config{Enabled: true}, []push.App{{ID: bundle, Provider: "apns", Sender: app}}, debugLog(log), nil)
		defer running(t, s)()
		clockAlarm := push.Condition{Open: true, Trouble: &push.Trouble{Kind: push.TroubleClock, Text: "ExpiredProviderToken", Remedy: "set the clock"}}
		app.is(clockAlarm)
		if d := cmp.Diff([]string{"push app org.example.phone (apns): ExpiredProviderToken: set the clock"}, s.Alarms()); d != "" {
			t.Error(d)
		}
		time.Sleep(10 * time.Minute)
		if lines := log.lines("push alarm"); len(lines) != 1 || !strings.Contains(lines[0], `kind=clock reason=ExpiredProviderToken remedy="set the clock"`) {
			t.Errorf("log: %q", lines)
		}
		app.is(push.Condition{})
		time.Sleep(time.Minute)
		if lines := log.lines("push alarm over"); len(lines) != 1 || len(s.Alarms()) != 0 {
			t.Errorf("log: %q, alarms %q", lines, s.Alarms())
		}
	})
}

func TestConditionsAreGauges(t *testing.T) {
	reg := prometheus.NewRegistry()
	app := &telling{}
	app.is(push.Condition{Connections: 2, Open: true, CredentialIssued: time.Unix(1_700_000_000, 0), Trouble: &push.Trouble{Kind: push.TroubleAuth}})
	push.New(push.Config{Enabled: true}, []push.App{
		{ID: bundle, Provider: "apns", Sender: app}, {ID: "web", Provider: "webpush", Sender: &fake{}},
	}, nil, reg)
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP sallyport_push_app_up 1 while pushes of the app can be expected to be accepted.
# TYPE sallyport_push_app_up gauge
sallyport_push_app_up{app="org.example.phone",provider="apns"} 0
sallyport_push_app_up{app="web",provider="webpush"} 1
# HELP sallyport_push_breaker_open 1 while pushes of the app are not tried, since the last ones were refused.
# TYPE sallyport_push_breaker_open gauge
sallyport_push_breaker_open{app="org.example.phone",provider="apns"} 1
# HELP sallyport_push_connections Open connections to the provider.
# TYPE sallyport_push_connections gauge
sallyport_push_connections{app="org.example.phone",provider="apns"} 2
# HELP sallyport_push_credential_issued_seconds When the credential in use was issued, in seconds since 1970.
# TYPE sallyport_push_credential_issued_seconds gauge
sallyport_push_credential_issued_seconds{app="org.example.phone",provider="apns"} 1.7e+09
`), "sallyport_push_app_up", "sallyport_push_breaker_open", "sallyport_push_connections", "sallyport_push_credential_issued_seconds")
	if err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// Whoever answers for a provider chooses the reason: it must not choose how many
// series there are.
func TestReasonsAreABoundedLabel(t *testing.T) {
	reg := prometheus.NewRegistry()
	i := 0
	f := &fake{answer: func(push.Notification) push.Result {
		i++
		return push.Result{Outcome: push.Refused, Status: 400 + i%2*100, Reason: fmt.Sprintf("Reason%c%d", 'A'+i%26, i)}
	}}
	s := push.New(push.Config{Enabled: true}, apps(f), nil, reg)
	for range 500 {
		s.Call(t.Context(), bobs(), carol)
	}
	n, err := testutil.GatherAndCount(reg, "sallyport_push_total")
	if err != nil || n != 2 {
		t.Errorf("%d series, %v", n, err)
	}
}

func TestEveryOutcomeHasAMeaningAndFailuresARemedy(t *testing.T) {
	for _, o := range []push.Outcome{push.Accepted, push.NoRoute, push.DeadToken, push.ProviderDown, push.Refused, push.Quiet} {
		meaning, remedy := push.Meaning(push.Result{Outcome: o, Reason: "Whatever"})
		if meaning == "" || (remedy == "") != (o == push.Accepted) {
			t.Errorf("%s: %q, %q", o, meaning, remedy)
		}
	}
	for reason, want := range map[string]string{
		"BadDeviceToken":                         "set environment to sandbox for development builds, to production for all others",
		"ExpiredProviderToken: is the clock bad": "set this machine's clock right: is NTP running?",
		"SENDER_ID_MISMATCH":                     "is service_account of the Firebase project that the app was built with, and may it send messages?",
	} {
		if _, remedy := push.Meaning(push.Result{Outcome: push.Refused, Reason: reason}); remedy != want {
			t.Errorf("%s: %q", reason, remedy)
		}
	}
}

func TestWaysExplainBothChannelsAndSendNothing(t *testing.T) {
	app := &telling{}
	s := push.New(push.Config{Enabled: true}, []push.App{{ID: bundle, Provider: "apns", TeamID: team, Sender: app}}, nil, nil)
	split := bobs()
	ways := s.Ways(split)
	if len(ways) != 2 || ways[0].Channel != push.VoIP || ways[1].Channel != push.Message {
		t.Fatalf("ways %+v", ways)
	}
	want := []push.Fact{{Name: "topic", Value: "org.example.phone.voip"}, {Name: "shows", Value: "ids, and who it is from"}}
	if d := cmp.Diff(want, ways[0].Facts); d != "" || ways[0].Token != split.Tokens[0] || ways[0].Class != "split" || ways[0].Problem != "" {
		t.Errorf("%s, %+v", d, ways[0])
	}
	single := push.Target{Tokens: split.Tokens[:1], Class: "single"}
	if w := s.Ways(single)[1]; w.Facts[0] != (push.Fact{Name: "sent by", Value: "the device's only channel, voip"}) || w.Problem != "" {
		t.Errorf("one channel: %+v", w)
	}
	if w := s.Ways(push.Target{Tokens: split.Tokens[1:], Class: "split"})[0]; w.Problem != "the device has no token for the VoIP channel" || w.App != "" {
		t.Errorf("no token: %+v", w)
	}
	if n := len(app.all()); n != 0 {
		t.Errorf("%d pushes", n)
	}
}

func TestP28_AnAuditRowSaysWhoWhatAndWhatBecameOfItAndNoMore(t *testing.T) {
	log, o := &text{}, newOwner(t)
	s := push.New(push.Config{Enabled: true}, apps(&fake{}), debugLog(log), nil)
	target := bobs()
	for i := range target.Tokens {
		target.Tokens[i] = o.of(target.Tokens[i])
	}
	r := s.Note(context.Background(), target, secretNote)
	s.Call(context.Background(), target, secretCall)
	s.Call(context.Background(), push.Target{Device: bobPhone, Tokens: []push.Token{{Provider: "apns", Value: "unfit-token-of-some-length", Param: "x.y"}}}, secretCall)
	rows := log.lines("audit=true")
	if len(rows) != 2 {
		t.Fatalf("rows %q", rows)
	}
	for _, part := range []string{"device=\"sip:…@example.com …\"", "event=message", "app=org.example.phone", "channel=message", "outcome=accepted", "id=" + r.ID} {
		if !strings.Contains(rows[0], part) {
			t.Errorf("row has no %s: %s", part, rows[0])
		}
	}
	whole := strings.Join(log.lines(""), "\n")
	secrets := []string{"Sekrit", "30555", "noon", target.Tokens[0].Value, target.Tokens[1].Value, target.Tokens[0].Auth, target.Tokens[0].Key, "bob", "unfit-token"}
	for _, secret := range secrets {
		if strings.Contains(whole, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}
