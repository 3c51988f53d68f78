// Package tunnel keeps one authenticated session between an edge and a core
// and carries many client flows over it: redial, heartbeat, credit per flow,
// drain, and opening flows again after a session was lost. Cores dial
// ([Dialer]), edges accept ([Acceptor]); only edges open flows.
//
// It does not know SIP, addresses of record or TLS: who the peer is, it is
// told by the functions that dial and shake hands. The bytes are those of
// tunnel/frame, the dialogue is told in spec.md.
//
//	edge: Open ──▶ Flow ──▶ Send, Event, Close
//	                 │ session lost      new session within Grace
//	                 ├──────────▶ gap ──────────▶ the same Flow, reopened
//	                 │             └─ Grace over ▶ Closed(tunnel-lost)
//	core: Open(*Flow) Handler
//	                 └─ session lost ▶ Closed(tunnel-lost)
//
// A session has several links, and each connection carries one of them. A
// connection that breaks takes nothing along: within Grace another goes on
// where it ended.
//
// Nothing waits per flow: an idle flow has no goroutine, no timer and no
// buffer. A connection has three goroutines; the one that reads calls handlers
// and waits for nobody.
package tunnel

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sallyport/tunnel/frame"
)

// Info is what OPEN says of a client connection. On the core it is a claim of
// the edge. It is shared by all who ask for it: do not change it.
type Info = frame.Info

// Event is something that happened to a flow that goes on.
type Event = frame.Event

// The events.
const (
	EventSilent = frame.EventSilent // the client's keep-alives stopped
	EventAlive  = frame.EventAlive  // and are heard again
)

// CloseCode says why a flow ended.
type CloseCode = frame.CloseCode

// Why flows end.
const (
	CloseClient       = frame.CloseClient       // the client closed its connection in order
	CloseReset        = frame.CloseReset        // the client's connection broke
	CloseKeepalive    = frame.CloseKeepalive    // the client no longer answered keep-alives
	CloseSlowConsumer = frame.CloseSlowConsumer // a full window, and no progress
	CloseProtocol     = frame.CloseProtocol     // the client broke its protocol
	ClosePolicy       = frame.ClosePolicy       // a limit, or the core does not want it
	CloseDrain        = frame.CloseDrain        // the sender is leaving
	CloseTunnelLost   = frame.CloseTunnelLost   // the tunnel was gone for longer than grace
	CloseKicked       = frame.CloseKicked       // an operator or a newer flow ended it
	CloseReconnect    = frame.CloseReconnect    // the client should connect anew
)

// What Send, SendWait and Open may answer.
var (
	// ErrNoCredit says that the peer has not yet taken what it was sent, or
	// that there is no session at present. Nothing was sent.
	ErrNoCredit = errors.New("tunnel: no credit")
	// ErrQueueFull is an ErrNoCredit for which the link is to blame, not the flow.
	ErrQueueFull = fmt.Errorf("%w: the link's queue is full", ErrNoCredit)
	// ErrClosed says that the flow has ended.
	ErrClosed = errors.New("tunnel: flow closed")
	// ErrTooBig says that the message can never be sent: it is longer than
	// 64 KiB, or than the peer's window.
	ErrTooBig = errors.New("tunnel: message too big")
	// ErrNoCore says that no core takes flows of that service now.
	ErrNoCore = errors.New("tunnel: no core takes new flows")
)

// Why sessions end, beside errors of the connection itself.
var (
	errDead     = errors.New("tunnel: peer is dead: nothing was heard")
	errStalled  = errors.New("tunnel: peer is stalled: it lives, but acknowledges nothing")
	errLost     = errors.New("tunnel: the session was lost")
	errReset    = fmt.Errorf("%w: it cannot be resumed", errLost)
	errLeft     = errors.New("tunnel: left")
	errReplaced = errors.New("tunnel: replaced by a newer session of the same node")
	errProtocol = errors.New("tunnel: peer broke the protocol")
)

// A Handler hears of one flow. It is called on a goroutine that serves every
// flow of the session, so it must not block; calls for one flow are in order.
// It may call the flow's methods, except SendWait.
type Handler interface {
	// Message is called with one whole message, or the last piece of one whose
	// others a [PartHandler] was given. It is valid until it returns. The bytes are owed to the peer until [Flow.Consumed].
	Message(f *Flow, p []byte)
	// Event is called when the peer reports one.
	Event(f *Flow, e Event)
	// Closed is called once, last, and not at all after the flow's own Close.
	Closed(f *Flow, code CloseCode, text string)
}

// Peer is the other end of a session.
type Peer struct {
	Name string // certified
	Boot uint64 // differs for each start of its process
}

// SessionStatus is what an operator wants to know of a session.
type SessionStatus struct {
	Edge      string // address dialled; on an edge, the core's remote address
	Peer      Peer   // zero before the first session
	Up        bool
	Since     time.Time // of the present state
	Flows     int
	Links     int           // connections the session should have
	LinksUp   int           // and has
	RTT       time.Duration // of the newest PING, 0 before
	Draining  bool          // the peer wants no new flows
	LastError string        // why there is no session, or why the one before ended
	Notices   []string      // what the edge wants its operator to know; a claim, but clean: see [Acceptor.SetNotices]
}

// tunables are what both ends may set, with their defaults filled in.
type tunables struct {
	pingEvery, deadAfter, stuckAfter, helloWithin time.Duration
	grace                                         time.Duration
	window, maxFlows, openRate, queue, budget     int
	minor                                         uint16
	features                                      uint64
	log                                           *slog.Logger
	build                                         string
}

const (
	// defaultPingEvery and defaultDeadAfter notice a frozen peer in 6 s and
	// allow two lost PINGs.
	defaultPingEvery = 2 * time.Second
	defaultDeadAfter = 6 * time.Second
	// defaultStuckAfter outlives a phone's dead spot in a lift.
	defaultStuckAfter = 30 * time.Second
	// helloWithin bounds the time a peer may take to say HELLO.
	helloWithin = 5 * time.Second
	// defaultGrace is how long clients are kept without a connection.
	defaultGrace = 15 * time.Second
	// defaultWindow holds the longest message.
	defaultWindow = 64 << 10
	// defaultMaxFlows is the edge's own default limit of clients.
	defaultMaxFlows = 100_000
	// defaultOpenRate is four times what an edge admits by default.
	defaultOpenRate = 2000
	// defaultQueue is a tenth of a second at 80 Mbit/s: beyond it, queueing
	// helps nobody.
	defaultQueue = 1 << 20
	// linksWithBBR are enough where one lost packet does not halve the rate;
	// otherwise linksWithout share the loss between them.
	linksWithBBR, linksWithout, maxLinks = 2, 4, 8
)

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (t tunables) withDefaults() tunables {
	t.pingEvery = or(t.pingEvery, defaultPingEvery)
	t.deadAfter = or(t.deadAfter, defaultDeadAfter)
	t.stuckAfter = or(t.stuckAfter, defaultStuckAfter)
	t.helloWithin = helloWithin
	t.grace = or(t.grace, defaultGrace)
	t.window = min(max(or(t.window, defaultWindow), frame.MinWindow), frame.MaxWindow) / share * share
	t.budget = or(t.budget, defaultBudget)
	t.minor, t.features = or(t.minor, maxMinor), features
	t.maxFlows = or(t.maxFlows, defaultMaxFlows)
	t.openRate = or(t.openRate, defaultOpenRate)
	t.queue = defaultQueue
	t.log = or(t.log, slog.New(slog.DiscardHandler))
	return t
}
