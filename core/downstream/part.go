package downstream

import (
	"fmt"

	"sallyport/tunnel"
)

// A PartHandler is a [Handler] that takes messages in pieces. Where a client's
// message comes so and its handler does not, the flow ends.
type PartHandler interface {
	Handler
	// Part is called as Message is, with a piece of a message that goes on with
	// the next Part or Message.
	Part(f *Flow, p []byte)
}

// partReceiver is the receiver of a flow whose handler is a PartHandler.
type partReceiver struct{ receiver }

func (r partReceiver) Part(_ *tunnel.Flow, p []byte) {
	r.f.shard.put(job{f: r.f, kind: jobPart, msg: append([]byte(nil), p...)})
}

// SendPart is Send for a piece of a message that goes on: the next Send ends it.
func (f *Flow) SendPart(p []byte) error {
	if err := f.tunnel.SendPart(p); err != nil {
		return fmt.Errorf("flow: %w", err)
	}
	return nil
}

// Hold says whether the client is to be held up: while it is, no credit is given
// back for what was handled, so that it can send a window more at most.
func (f *Flow) Hold(v bool) {
	f.mu.Lock()
	f.hold = v
	owed := 0
	if !v {
		owed, f.owed = f.owed, 0
	}
	f.mu.Unlock()
	if owed > 0 {
		f.tunnel.Consumed(owed)
	}
}

// handled gives credit back for n bytes.
func (f *Flow) handled(n int) {
	f.mu.Lock()
	if f.hold {
		f.owed += n
		n = 0
	}
	f.mu.Unlock()
	if n > 0 {
		f.tunnel.Consumed(n)
	}
}
