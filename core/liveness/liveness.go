// Package liveness answers one question: how can the core reach this device
// now? It is the only room that may answer it.
//
// It owns the derivation of a device's state from facts that others gather. It
// does no I/O, keeps nothing, starts no goroutine and reads no clock: the
// caller passes facts and time in. It knows neither what a flow is made of nor
// how a push travels.
package liveness

import "time"

// State is how a device can be reached. It is never stored; see [Facts.State].
//
//	          REGISTER                inactive, no pong, no answer
//	Gone ────────────────▶ Foreground ────────────────────────────▶ Silent
//	 ▲                      ▲  ▲  │            heard again           │   │
//	 │                      │  └──┼──────────────────────────────────┘   │
//	 │                      │     │ flow lost                  flow lost │
//	 │ kept no longer, or   │     ▼                                      │
//	 │ its token died, or   │  Suspended ◀───────────────────────────────┘
//	 │ its grace is over    │     │ push ▲ window over
//	 ├──────────────────────┼─────┤      │
//	 │             REGISTER │     ▼      │
//	 └──────────────────────┴── Waking ──┘
//
// A device without a token is Suspended for the reconnect grace only (B30),
// and Gone after it.
type State int

// The states, from the least to the best reachable. What each means for a
// call, a message and presence is the state table of the product.
const (
	// Gone: no flow and no way to bring one about. A call is refused at once.
	Gone State = iota
	// Suspended: no flow, but the device can come back, by a push or, within
	// the reconnect grace, by itself.
	Suspended
	// Waking: as Suspended, with a push out whose window runs.
	Waking
	// Silent: a flow that may no longer be heard by anybody.
	Silent
	// Foreground: a live flow that answers, not reported inactive.
	Foreground
)

// String returns the state's name in logs, traces and the API.
func (s State) String() string {
	switch s {
	case Gone:
		return "gone"
	case Suspended:
		return "suspended"
	case Waking:
		return "waking"
	case Silent:
		return "silent"
	case Foreground:
		return "foreground"
	}
	return "unknown"
}

// Facts are what is known about one device at one moment.
type Facts struct {
	// Flow: the device has a live flow.
	Flow bool
	// Inactive: the client said so on that flow (Client-State: inactive, or
	// XEP-0352), and did not take it back.
	Inactive bool
	// KeepaliveLost: the edge hears no keep-alive on the flow: a WebSocket
	// pong is missed, or no CRLF came within Flow-Timer + 30 s where one was
	// granted (RFC 5626 §4.4.1).
	KeepaliveLost bool
	// Unanswered: nothing at all came on the flow within 2 s of a request
	// sent down it.
	Unanswered bool

	// Pushable: there is a usable token on the channel the question is about
	// and push is switched on. A two-channel device whose VoIP token died is
	// not pushable for a call and still is for a message (B19).
	Pushable bool
	// Waking: a push is out and its window runs.
	Waking bool

	// FlowLost is when the last flow ended; zero when there never was one.
	FlowLost time.Time
	// Grace is how long a device without a token is waited for after its flow
	// ended (reconnect_grace, B30); zero for not at all.
	Grace time.Duration
}

// State derives how the device can be reached at now. A live flow beats a
// running wake: a device that came back by itself needs no push.
func (f Facts) State(now time.Time) State {
	switch {
	case f.Flow && !f.Inactive && !f.KeepaliveLost && !f.Unanswered:
		return Foreground
	case f.Flow:
		return Silent
	case f.Pushable && f.Waking:
		return Waking
	case f.Pushable:
		return Suspended
	case f.GraceLeft(now) > 0:
		return Suspended
	default:
		return Gone
	}
}

// GraceLeft returns how much longer a device that cannot be pushed is waited
// for (B30): zero when the grace is over, when the device is reachable by flow
// or push, and when it never had a flow. A FlowLost ahead of now, from another
// core's clock, never stretches the grace.
func (f Facts) GraceLeft(now time.Time) time.Duration {
	if f.Flow || f.Pushable || f.FlowLost.IsZero() {
		return 0
	}
	left := f.FlowLost.Add(f.Grace).Sub(now)
	return max(0, min(left, f.Grace))
}

// Away reports whether others see the client as Away (B11). A gone client is
// offline, which is another thing; a foreground client shows its own presence.
func (f Facts) Away(now time.Time) bool {
	switch f.State(now) {
	case Silent, Suspended, Waking:
		return true
	case Gone, Foreground:
	}
	return false
}
