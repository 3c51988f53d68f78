// Package trace is the record of each call to a device: what was done, when,
// and which step failed, so that the help desk can say why a phone did not
// ring. It holds the newest calls in memory, within bounds, and declares the
// store that keeps them over a restart. It does not know SIP grammar: steps
// are told to it.
package trace

import (
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"
)

// The steps of a call, as GET /api/v1/traces names them.
const (
	StepInvite       = "invite"        // a call came in
	StepState        = "state"         // the device's state was derived
	StepPushSent     = "push_sent"     // a push left for the provider
	StepPushAccepted = "push_accepted" // the provider took it
	StepPushRefused  = "push_refused"  // the provider, or the lack of one, refused it
	StepRegistered   = "registered"    // the device registered
	StepInviteOut    = "invite_out"    // the INVITE left for the device
	StepRinging      = "ringing"       // the device answered 18x
	StepAnswered     = "answered"      // the device answered 2xx
	StepCancelled    = "cancelled"     // the caller gave up, or another device answered
	StepWindowOver   = "window_over"   // the device did not come back in time
	StepRefused      = "refused"       // the branch ended with an error
)

// Bounds of one trace. What is longer is cut, what is more is left out: a
// trace is for reading, and callers choose much of its text.
const (
	maxSteps  = 64
	maxText   = 256 // bytes of call id, AOR, caller and each detail
	maxPerAOR = 50  // one AOR under attack must not push out all others
)

// Trace is the record of one call to one AOR; its JSON is an element of
// GET /api/v1/traces.
type Trace struct {
	CallID  string    `json:"call_id"`
	AOR     string    `json:"aor"`
	From    string    `json:"from"`
	Started time.Time `json:"started"`
	// State is the state of the device when the call came: "foreground",
	// "silent", "suspended", "waking" or "gone"; "" until it is derived.
	State string `json:"state"`
	// Outcome is "" while the call is under way.
	Outcome string `json:"outcome"`
	// FailedStep names the step that failed, "" when none did.
	FailedStep string `json:"failed_step"`
	Steps      []Step `json:"steps"`
}

// Step is one thing that happened in a call.
type Step struct {
	At     time.Time `json:"at"`
	Step   string    `json:"step"` // one of the Step constants
	Detail string    `json:"detail"`
}

// LogValue shows what became of a call, and of its parties the domain alone.
func (t Trace) LogValue() slog.Value {
	last := ""
	if n := len(t.Steps); n > 0 {
		last = t.Steps[n-1].Step
	}
	return slog.GroupValue(
		slog.String("call_id", t.CallID),
		slog.String("aor", redact(t.AOR)),
		slog.String("state", t.State),
		slog.String("outcome", t.Outcome),
		slog.String("failed_step", t.FailedStep),
		slog.String("last_step", last),
	)
}

func redact(aor string) string {
	if at := strings.LastIndexByte(aor, '@'); at >= 0 {
		return "…" + aor[at:]
	}
	return "…"
}

// canonical writes an AOR as traces are found by: with a scheme, the host in
// lower case.
func canonical(aor string) string {
	if !strings.Contains(aor, ":") {
		aor = "sip:" + aor
	}
	if at := strings.LastIndexByte(aor, '@'); at >= 0 {
		return aor[:at] + strings.ToLower(aor[at:])
	}
	return aor
}

// cut bounds a text that somebody outside may have chosen, and makes it UTF-8.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	end := maxText - len("…")
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
