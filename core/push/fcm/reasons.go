package fcm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"sallyport/core/push"
)

// Google asks for ten seconds at least before the same push is sent again, and
// for a minute after a 429 that names no time. A configuration that is wrong is
// asked about every five minutes.
const (
	minRetry    = 10 * time.Second
	quotaRetry  = time.Minute
	configRetry = 5 * time.Minute
)

// verdict says what an answer of FCM's means and what follows from it.
type verdict struct {
	outcome push.Outcome
	// retry is how long to wait before the same push may be sent again, unless a
	// longer time was asked for; 0 is never.
	retry time.Duration
	// suspect: it speaks against the token, and so would a wrong configuration.
	suspect bool
	// probe asks whether the token or the payload is at fault.
	probe bool
	// again resends once, on another connection: nothing was answered on this one.
	again bool
	// drop forgets the access token.
	drop bool
	// trip opens the breaker: project, account or endpoint are wrong.
	trip bool
	// alarm shows the reason on the status page though the breaker stays shut.
	alarm bool
}

// The verdicts.
var (
	accepted  = verdict{outcome: push.Accepted}
	gone      = verdict{outcome: push.DeadToken}
	foreign   = verdict{outcome: push.Refused, suspect: true}
	malformed = verdict{outcome: push.Refused, probe: true}
	misuse    = verdict{outcome: push.Refused, alarm: true}
	throttled = verdict{outcome: push.Refused, retry: quotaRetry}
	server    = verdict{outcome: push.ProviderDown, retry: minRetry, alarm: true}
	thirdHand = verdict{outcome: push.ProviderDown, retry: configRetry, alarm: true}
	config    = verdict{outcome: push.ProviderDown, retry: configRetry, trip: true, alarm: true}
	stale     = verdict{outcome: push.ProviderDown, retry: minRetry, drop: true, trip: true, alarm: true}
	noAnswer  = verdict{outcome: push.ProviderDown, retry: minRetry, again: true, alarm: true}
	crowded   = verdict{outcome: push.ProviderDown, retry: minRetry, alarm: true}
)

// byCode are FCM's own error codes (ErrorCode of the HTTP v1 interface). Only
// one of them makes a token dead. THIRD_PARTY_AUTH_ERROR speaks of a key that
// was given to Firebase for another platform, and stops nobody else's pushes.
var byCode = map[string]verdict{
	"UNREGISTERED":           gone,
	"INVALID_ARGUMENT":       malformed,
	"SENDER_ID_MISMATCH":     foreign,
	"QUOTA_EXCEEDED":         throttled,
	"THIRD_PARTY_AUTH_ERROR": thirdHand,
	"UNAVAILABLE":            server,
	"INTERNAL":               server,
}

// byStatus are the answers without a code of FCM's: they are Google's front, a
// proxy, or another server than FCM.
var byStatus = map[int]verdict{
	http.StatusBadRequest:      malformed,
	http.StatusUnauthorized:    stale,
	http.StatusForbidden:       config,
	http.StatusNotFound:        config,
	http.StatusTooManyRequests: throttled,
}

// judge finds the verdict on an answer.
func judge(a answer) verdict {
	if a.err != nil {
		return judgeError(a.err)
	}
	v, ok := byCode[a.code]
	if !ok {
		v, ok = byStatus[a.status]
	}
	switch {
	case a.named:
		v = accepted
	case ok:
	case a.status >= 500:
		v = server
	case a.status/100 == 4:
		v = misuse
	default: // not FCM: a page, or a redirection to one
		v = config
	}
	if v.retry > 0 && a.after > 0 {
		v.retry = max(a.after, minRetry)
	}
	return v
}

func judgeError(err error) verdict {
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		return verdict{outcome: push.ProviderDown, retry: configRetry} // the keeper raises the alarm
	case errors.Is(err, errTokenless), errors.Is(err, errClosed), errors.Is(err, context.Canceled):
		return verdict{outcome: push.ProviderDown, retry: minRetry}
	case errors.Is(err, errSlow), late(err):
		return crowded
	default:
		return noAnswer
	}
}

// late reports that a push never had its turn.
func late(err error) bool {
	return errors.Is(err, errCrowded) || errors.Is(err, errLate) || errors.Is(err, errStuck) || errors.Is(err, errForbidden)
}

// String names the answer for people. It holds no token, and nothing of what
// was answered but words of Google's error model.
func (a answer) String() string {
	switch {
	case errors.Is(a.err, errTokenless):
		return strings.ReplaceAll(a.err.Error(), context.DeadlineExceeded.Error(), "no answer in time")
	case errors.Is(a.err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(a.err, context.Canceled):
		return "withdrawn before there was an answer"
	case a.err != nil:
		return a.err.Error()
	case a.named:
		return ""
	}
	text := a.code
	if text == "" {
		text = a.kind
	}
	switch {
	case text == "":
		return fmt.Sprintf("HTTP status %d", a.status)
	case a.detail != "" && a.detail != text:
		return text + " (" + a.detail + ")"
	}
	return text
}
