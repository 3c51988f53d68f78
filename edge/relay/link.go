package relay

import (
	"context"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"sallyport/edge/admission"
	"sallyport/edge/flow"
	"sallyport/edge/transport"
	"sallyport/tunnel"
)

// link is one client and its flow in the tunnel. It is the client's
// [flow.Owner]; its handler side is the tunnel's.
type link struct {
	// Static after Serve.
	relay  *Relay
	client *flow.Flow
	pass   *admission.Pass

	// Owned by the client's reader.
	info *tunnel.Info // nil once the flow is open

	// Guarded by mu.
	mu     sync.Mutex
	inside *tunnel.Flow // nil before the first message
	owed   int          // written for the client before inside was known
	over   bool         // one side has ended
	lost   *time.Timer  // runs between the loss of the tunnel and the end
}

// Message sends a client's message inside, and waits until there is room.
func (l *link) Message(ctx context.Context, p []byte) error {
	inside, err := l.open()
	if err != nil {
		return err
	}
	err = send(ctx, inside, p)
	switch {
	case err == nil, ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, tunnel.ErrClosed):
		l.refuse()
		<-ctx.Done() // the client has still to take what the core said last
		return ctx.Err()
	default:
		return &transport.Error{Reason: transport.Policy, Err: err}
	}
}

// longestWhole is the longest message that is sent inside as one, and
// longestPiece the longest piece of any other, in bytes.
const longestPiece, longestWhole = 16 << 10, 64 << 10

// send sends p inside, in pieces where it must.
func send(ctx context.Context, inside *tunnel.Flow, p []byte) error {
	if len(p) > longestWhole {
		for ; len(p) > longestPiece; p = p[longestPiece:] {
			if err := inside.SendPartWait(ctx, p[:longestPiece]); err != nil {
				return err
			}
		}
	}
	return inside.SendWait(ctx, p)
}

// open returns the client's flow in the tunnel, which its first message opens.
func (l *link) open() (*tunnel.Flow, error) {
	if l.info == nil {
		return l.inside, nil // written by this goroutine only
	}
	inside, err := l.relay.cfg.Tunnel.Open(*l.info, (*handler)(l))
	switch {
	case errors.Is(err, tunnel.ErrNoCore):
		return nil, &transport.Error{Reason: transport.TryLater, Err: err}
	case err != nil:
		return nil, &transport.Error{Reason: transport.Policy, Err: err}
	}
	l.mu.Lock()
	l.inside, l.info = inside, nil
	owed, over := l.owed, l.over
	l.mu.Unlock()
	inside.Consumed(owed)
	if over { // before it began
		inside.Close(tunnel.CloseClient, "")
		return inside, nil
	}
	l.log("flow opened")
	return inside, nil
}

// refuse ends a client that speaks while it waits to be sent away: it finds
// another way in the sooner.
func (l *link) refuse() {
	l.mu.Lock()
	waiting := l.lost != nil
	l.mu.Unlock()
	if waiting {
		l.client.End(transport.Leaving, "the tunnel is lost")
	}
}

// Silent tells the core of a change in the client's signs of life.
func (l *link) Silent(silent bool) {
	e := tunnel.EventAlive
	if silent {
		e = tunnel.EventSilent
	}
	l.mu.Lock()
	inside := l.inside
	l.mu.Unlock()
	if inside != nil {
		_ = inside.Event(e) // a flow that is closed needs no event
	}
}

// Written gives credit back for what has left for the client.
func (l *link) Written(n int) {
	l.mu.Lock()
	inside := l.inside
	if inside == nil {
		l.owed += n
	}
	l.mu.Unlock()
	if inside != nil {
		inside.Consumed(n)
	}
}

// Ended closes the flow in the tunnel, unless the core did.
func (l *link) Ended(r transport.Reason, text string) {
	l.mu.Lock()
	first := !l.over
	l.over = true
	inside := l.inside
	if l.lost != nil {
		l.lost.Stop()
	}
	l.mu.Unlock()
	if inside != nil {
		if first {
			inside.Close(codeOf[r], text)
		}
		l.log("flow closed", "reason", r.String(), "detail", text)
	}
	l.pass.Leave()
}

// Message queues for the client what the core sent.
func (l *handler) Message(_ *tunnel.Flow, p []byte) { l.client.Send(p) }

// Part queues a piece of what the core sent.
func (l *handler) Part(_ *tunnel.Flow, p []byte) { l.client.SendPart(p) }

// Event has nothing to tell: no event goes to edges in this version.
func (l *handler) Event(*tunnel.Flow, tunnel.Event) {}

// Closed sends the client away: at once, after what it was sent before; or,
// when the whole tunnel is lost, spread over time with all the others.
func (l *handler) Closed(_ *tunnel.Flow, code tunnel.CloseCode, text string) {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return
	}
	l.over = true
	if code == tunnel.CloseTunnelLost {
		l.lost = time.AfterFunc(l.relay.away(), func() { l.client.End(transport.Leaving, "the tunnel is lost") })
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	reason, known := reasonOf[code]
	if !known {
		reason = transport.Leaving
	}
	l.client.Finish(reason, text)
}

// handler is the side of a link that the tunnel sees.
type handler link

func (l *link) log(msg string, more ...any) {
	info := l.inside.Info()
	l.relay.cfg.Log.Info(msg, append([]any{
		"flow", hex.EncodeToString(info.UUID[:]), "transport", info.Transport,
		"remote", transport.Remote(info.Remote.Addr()),
	}, more...)...)
}
