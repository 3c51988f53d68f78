package liveness_test

import (
	"testing"
	"time"

	"sallyport/core/liveness"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

const grace = 5 * time.Second

func TestState(t *testing.T) {
	tests := map[string]struct {
		facts liveness.Facts
		want  liveness.State
		away  bool
	}{
		"never registered": {liveness.Facts{Grace: grace}, liveness.Gone, false},

		"foreground: a live flow that answers":     {liveness.Facts{Flow: true}, liveness.Foreground, false},
		"foreground: a live flow needs no token":   {liveness.Facts{Flow: true, Pushable: true}, liveness.Foreground, false},
		"foreground: a live flow beats a wake":     {liveness.Facts{Flow: true, Pushable: true, Waking: true}, liveness.Foreground, false},
		"foreground: an old flow's end is history": {liveness.Facts{Flow: true, FlowLost: ago(time.Second), Grace: grace}, liveness.Foreground, false},

		"silent: the client said inactive":       {liveness.Facts{Flow: true, Inactive: true, Pushable: true}, liveness.Silent, true},
		"silent: keep-alives are missed":         {liveness.Facts{Flow: true, KeepaliveLost: true}, liveness.Silent, true},
		"silent: a request was left unanswered":  {liveness.Facts{Flow: true, Unanswered: true}, liveness.Silent, true},
		"silent: a wake does not hide the flow":  {liveness.Facts{Flow: true, Inactive: true, Pushable: true, Waking: true}, liveness.Silent, true},
		"suspended: flow lost, token known":      {liveness.Facts{Pushable: true, FlowLost: ago(time.Hour), Grace: grace}, liveness.Suspended, true},
		"suspended: what was said died with it":  {liveness.Facts{Pushable: true, Inactive: true, Unanswered: true}, liveness.Suspended, true},
		"waking: a push is out":                  {liveness.Facts{Pushable: true, Waking: true}, liveness.Waking, true},
		"gone: the token died while a push flew": {liveness.Facts{Waking: true}, liveness.Gone, false},

		"B14 push switched off: gone at once":                    {liveness.Facts{FlowLost: ago(time.Hour), Grace: grace}, liveness.Gone, false},
		"B19 dead VoIP token: gone for calls":                    {liveness.Facts{Pushable: false, FlowLost: ago(time.Minute), Grace: grace}, liveness.Gone, false},
		"B19 dead VoIP token: still suspended for messages":      {liveness.Facts{Pushable: true, FlowLost: ago(time.Minute), Grace: grace}, liveness.Suspended, true},
		"B29 the SIP binding expired weeks ago, tokens are kept": {liveness.Facts{Pushable: true, FlowLost: ago(29 * 24 * time.Hour)}, liveness.Suspended, true},
		"B29 kept no longer: no token, long without a flow":      {liveness.Facts{FlowLost: ago(31 * 24 * time.Hour), Grace: grace}, liveness.Gone, false},

		"B30 no token, the flow ended this instant":     {liveness.Facts{FlowLost: now, Grace: grace}, liveness.Suspended, true},
		"B30 no token, within the grace":                {liveness.Facts{FlowLost: ago(grace - 1), Grace: grace}, liveness.Suspended, true},
		"B30 no token, the grace ends this instant":     {liveness.Facts{FlowLost: ago(grace), Grace: grace}, liveness.Gone, false},
		"B30 no grace configured":                       {liveness.Facts{FlowLost: ago(0)}, liveness.Gone, false},
		"B30 a push that was out before the token died": {liveness.Facts{Waking: true, FlowLost: ago(time.Second), Grace: grace}, liveness.Suspended, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.facts.State(now); got != tt.want {
				t.Errorf("State = %v, want %v", got, tt.want)
			}
			if got := tt.facts.Away(now); got != tt.away {
				t.Errorf("Away = %v, want %v", got, tt.away)
			}
		})
	}
}

func TestB30_GraceLeft(t *testing.T) {
	tests := map[string]struct {
		facts liveness.Facts
		want  time.Duration
	}{
		"whole at the start":             {liveness.Facts{FlowLost: now, Grace: grace}, grace},
		"what is left of it":             {liveness.Facts{FlowLost: ago(2 * time.Second), Grace: grace}, 3 * time.Second},
		"over":                           {liveness.Facts{FlowLost: ago(time.Minute), Grace: grace}, 0},
		"a clock ahead does not stretch": {liveness.Facts{FlowLost: now.Add(time.Hour), Grace: grace}, grace},
		"none for a device with a flow":  {liveness.Facts{Flow: true, FlowLost: now, Grace: grace}, 0},
		"none for a device with a token": {liveness.Facts{Pushable: true, FlowLost: now, Grace: grace}, 0},
		"none for one that never was":    {liveness.Facts{Grace: grace}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.facts.GraceLeft(now); got != tt.want {
				t.Errorf("GraceLeft = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestStateNames(t *testing.T) {
	want := map[liveness.State]string{
		liveness.Gone: "gone", liveness.Suspended: "suspended", liveness.Waking: "waking",
		liveness.Silent: "silent", liveness.Foreground: "foreground", liveness.State(99): "unknown",
	}
	for s, name := range want {
		if s.String() != name {
			t.Errorf("State(%d) = %q, want %q", int(s), s, name)
		}
	}
}
