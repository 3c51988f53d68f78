package transport

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/coder/websocket"

	"sallyport/edge/wsframe"
	"sallyport/tunnel/sipstream"
)

// Reason says why a connection ended.
type Reason uint8

// Why connections end. The first two are the client's doing without fault; the
// last two are ours.
const (
	ClientClosed  Reason = iota + 1 // in order
	ClientReset                     // it broke
	KeepaliveLost                   // questions for a sign of life went unanswered
	SlowConsumer                    // the client does not take what it is sent
	Protocol                        // what came cannot be framed
	Policy                          // a limit in time or size, or the core does not want it
	TryLater                        // nobody inside to talk to
	Leaving                         // the edge, or the way inside, goes away
	Kicked                          // ended on purpose; connecting anew may help
)

var reasonNames = [...]string{
	ClientClosed: "client-closed", ClientReset: "client-reset", KeepaliveLost: "keepalive-lost",
	SlowConsumer: "slow-consumer", Protocol: "protocol", Policy: "policy",
	TryLater: "try-later", Leaving: "leaving", Kicked: "kicked",
}

// String names the reason, "client-reset" for instance.
func (r Reason) String() string {
	if r > 0 && int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// status is what a WebSocket client is told (RFC 6455 §7.4, IANA registry).
func (r Reason) status() websocket.StatusCode {
	switch r {
	case Protocol:
		return websocket.StatusProtocolError
	case Policy:
		return websocket.StatusPolicyViolation
	case TryLater, SlowConsumer:
		return websocket.StatusTryAgainLater
	case Leaving, Kicked:
		return websocket.StatusServiceRestart
	default:
		return websocket.StatusNormalClosure
	}
}

// hopeless reports whether a goodbye has no chance to be heard.
func (r Reason) hopeless() bool {
	return r == ClientReset || r == KeepaliveLost || r == SlowConsumer
}

// ErrNoPing says that the protocol has no question for a sign of life.
var ErrNoPing = errors.New("no ping on a stream")

// Error is an end with its reason, where the error alone does not tell it.
type Error struct {
	Reason Reason
	Err    error
}

// Error is the text of the error within.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap is the error within.
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf reads from an error why a connection ended.
func ReasonOf(err error) Reason {
	var told *Error
	var closed websocket.CloseError
	switch {
	case errors.As(err, &told):
		return told.Reason
	case err == nil, errors.Is(err, io.EOF) && !errors.As(err, &closed) && !errors.Is(err, io.ErrUnexpectedEOF):
		return ClientClosed
	case errors.As(err, &closed):
		return closeReason(closed.Code)
	case errors.Is(err, sipstream.ErrSyntax), errors.Is(err, sipstream.ErrLength),
		errors.Is(err, sipstream.ErrHeaderTooLong), errors.Is(err, sipstream.ErrMessageTooLong),
		errors.Is(err, websocket.ErrMessageTooBig),
		errors.Is(err, wsframe.ErrTooBig), errors.Is(err, wsframe.ErrProtocol), errors.Is(err, wsframe.ErrText):
		return Protocol
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Policy
	default:
		return ClientReset
	}
}

// closeReason reads a client's close frame: it leaves in order, or blames us.
func closeReason(code websocket.StatusCode) Reason {
	switch code {
	case websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusNoStatusRcvd:
		return ClientClosed
	default:
		return ClientReset
	}
}

// slow marks an error of writing that ran into its deadline.
func slow(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &Error{SlowConsumer, fmt.Errorf("client takes nothing: %w", err)}
	}
	return err
}

// tooSlow marks an error of reading that ran into its deadline.
func tooSlow(err error, spoke bool) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if spoke {
		return &Error{Policy, fmt.Errorf("a message took too long to arrive: %w", err)}
	}
	return &Error{Policy, fmt.Errorf("client said nothing: %w", err)}
}
