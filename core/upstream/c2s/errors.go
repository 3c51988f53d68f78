package c2s

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrClosed: the stream was closed by its owner.
	ErrClosed = errors.New("stream to the server closed")
	// ErrSlow: the server does not take what waits for it.
	ErrSlow = errors.New("server does not read")
	// ErrBusy: too many streams are being opened at a time.
	ErrBusy = errors.New("too many streams being opened")
	// ErrFrame: what came is not a WebSocket's frame, or not an allowed one.
	ErrFrame = errors.New("websocket frame not understood")
)

// Phase is how far a stream came.
type Phase string

// The phases, in their order.
const (
	PhaseResolve   Phase = "resolve"
	PhaseConnect   Phase = "connect"
	PhaseTLS       Phase = "tls"
	PhaseWebSocket Phase = "websocket"
	PhaseStream    Phase = "stream"
	PhaseSTARTTLS  Phase = "starttls"
	PhaseLogin     Phase = "login" // the features were read, and what they offer does not do
)

// Error is why a stream could not be opened.
type Error struct {
	Domain   string
	Upstream string // as configured
	Server   string // "127.0.0.1:5222"; "" before it was resolved
	Phase    Phase
	Err      error
	Remedy   string // what to do about it; may be ""
	// Stream is the condition of the server's stream error (RFC 6120 §4.9.3),
	// "" when it sent none.
	Stream string
}

// Error names domain, server, phase and cause, and the remedy.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "xmpp.domain %s: upstream %s", e.Domain, e.Upstream)
	if e.Server != "" {
		fmt.Fprintf(&b, " (%s)", e.Server)
	}
	fmt.Fprintf(&b, ": %s: %v", e.Phase, e.Err)
	if e.Remedy != "" {
		b.WriteString(": " + e.Remedy)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Condition is the stream error (RFC 6120 §4.9.3) that tells a client.
func (e *Error) Condition() string {
	switch {
	case e.Stream == "host-unknown" || e.Stream == "host-gone":
		return e.Stream
	case errors.Is(e.Err, ErrBusy):
		return "resource-constraint"
	}
	return "remote-connection-failed"
}
