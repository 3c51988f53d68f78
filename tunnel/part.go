package tunnel

import (
	"context"
	"errors"
	"fmt"

	"sallyport/tunnel/frame"
)

// ErrNoParts says that the peer takes no message in pieces. Nothing was sent.
var ErrNoParts = errors.New("tunnel: peer takes no messages in pieces")

// A PartHandler is a [Handler] that takes messages in pieces. Where the peer
// sends one to a handler that does not, the flow ends with protocol.
type PartHandler interface {
	// Part is called as Message is, with a piece of a message that goes on:
	// with the next Part, or with Message, which brings the last piece.
	Part(f *Flow, p []byte)
}

// SendPart is Send for a piece of a message that goes on: the next Send ends
// it, with at least a byte. That allows messages of any length; how long they
// may be is for both ends to know. It fails with ErrNoParts too. A session
// that is lost between two pieces loses those that came before.
func (f *Flow) SendPart(p []byte) error {
	l := f.lock()
	defer l.mu.Unlock()
	return l.send(f, frame.TypePart, p)
}

// SendPartWait is SendPart that waits as SendWait does.
func (f *Flow) SendPartWait(ctx context.Context, p []byte) error {
	return f.sendWait(ctx, frame.TypePart, p)
}

// parts tells whether messages may come in pieces.
func (s *session) parts() bool { return s.features&frame.FeatureParts != 0 }

func (l *link) onPart(_ *carrier, id uint32, p []byte) error {
	if !l.s.parts() {
		return fmt.Errorf("%w: PART was not agreed on", errProtocol)
	}
	f, err := l.receive(id, len(p))
	if f == nil {
		return err
	}
	if h, takes := f.h.(PartHandler); takes {
		h.Part(f, p)
		return nil
	}
	const why = "messages in pieces are not taken here"
	l.mu.Lock()
	ended := l.close(f, CloseProtocol, why)
	l.mu.Unlock()
	if ended {
		f.h.Closed(f, CloseProtocol, why)
	}
	return nil
}
