// Package transport shows SIP over TLS (RFC 3261 §18, RFC 5626 §3.5.1), SIP and
// XMPP over secure WebSocket (RFC 7118, RFC 7395) and XMPP over TLS (RFC 6120,
// XEP-0368) as one thing: a connection that carries messages. They are whole,
// except those of XMPP over TLS, which are bytes as they came. It accepts,
// shakes hands, upgrades, frames, and answers what each protocol asks below the
// message. What messages say, whose they are and where they go, it does not
// know.
package transport

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"sallyport/edge/wsframe"
	"sallyport/tunnel/sipstream"
)

// Conn is one client as a sequence of messages; see [Transport.Raw] for what
// they are in XMPP over TLS. Its methods may be called from
// any goroutine. How it waits for the client between messages is its own
// business: on Linux it holds neither goroutine nor buffer meanwhile.
type Conn interface {
	// Start begins to read and returns. It is called once.
	Start(r Receiver)
	// Write sends one whole message and returns when its bytes have left for
	// the socket. It fails, as SlowConsumer, when none of them move for
	// Config.WriteTimeout. Calls must not overlap.
	Write(p []byte) error
	// WritePart is Write for a piece of a message that goes on, to be ended by
	// Write. A piece is text, but may end within a character.
	WritePart(p []byte) error
	// Pong answers a keep-alive of the client. It must not overlap Write.
	Pong() error
	// Ping asks the client for a sign of life and waits for it until ctx ends.
	// It fails with ErrNoPing where the protocol has no such question.
	Ping(ctx context.Context) error
	// Go has t.Run called on another goroutine: one that is kept for such
	// tasks, and has its stack, where there are any.
	Go(t Task)
	// Close ends the connection, with a goodbye that says why where the
	// protocol has one and it may be heard. It returns within 10 s, and the
	// Receiver hears of the end as of any other within another 10. Later calls
	// do nothing.
	Close(r Reason)
}

// Task is something to be done.
type Task interface{ Run() }

// Receiver takes what a client sends. It is called by one goroutine at a time.
type Receiver interface {
	// Message takes one message, valid until it returns. It may block,
	// and as long as it does nothing more is read from this client. An error
	// ends the connection.
	Message(p []byte) error
	// KeepAlive tells of a CRLF keep-alive, which is owed a Pong.
	KeepAlive()
	// Alive tells of another sign of life below the message.
	Alive()
	// Ended is the last call, and there is exactly one. [ReasonOf] reads err.
	Ended(err error)
}

// Config holds the sizes and times of every connection. Zero means the default.
type Config struct {
	// MaxMessage is the longest message, in bytes, and the longest piece of a
	// stream that is not cut. Default 64 KiB.
	MaxMessage int
	// MaxElement is the longest message of XMPP over WebSocket, in bytes.
	// Default 256 KiB, which servers take too: rosters and pictures are long.
	MaxElement int
	// Rate is how many bytes a second a client of XMPP may send, TLS and frames
	// included, with a burst of four times as many; what is beyond is not read
	// yet. 0: any.
	Rate int
	// MaxHeader is the longest header block on a stream, in bytes. Default
	// 16 KiB, and never more than MaxMessage.
	MaxHeader int
	// FirstMessage is how long a client may say nothing at all. Default 10 s.
	FirstMessage time.Duration
	// WholeMessage is how long a message may take from its first byte to its
	// last. Default 30 s: 64 KiB from a phone at the edge of coverage.
	WholeMessage time.Duration
	// WriteTimeout is how long a client may take nothing of what it is sent,
	// before it is a slow consumer. Default 30 s: a lift, a tunnel.
	WriteTimeout time.Duration
	// Log hears of what an operator of the listener should know. May be nil.
	Log *slog.Logger
}

// Transport makes connections that share one Config and one pool of buffers.
type Transport struct {
	cfg     Config
	buffers sync.Pool // of *[]byte, readSize long
	cutters sync.Pool // of *wsframe.Cutter, idle
	lot     *lot

	// ownFrames has every WebSocket framed as parked ones are.
	ownFrames bool
}

// readSize is the size of a pooled read buffer: most messages fit, so that one
// read brings them whole.
const readSize = 8 << 10

// New returns a Transport. It starts nothing.
func New(cfg Config) *Transport {
	cfg.MaxMessage = positive(cfg.MaxMessage, sipstream.DefaultMaxMessage)
	cfg.MaxHeader = min(positive(cfg.MaxHeader, sipstream.DefaultMaxHeader), cfg.MaxMessage)
	cfg.MaxElement = positive(cfg.MaxElement, 256<<10)
	cfg.FirstMessage = positive(cfg.FirstMessage, 10*time.Second)
	cfg.WholeMessage = positive(cfg.WholeMessage, 30*time.Second)
	cfg.WriteTimeout = positive(cfg.WriteTimeout, 30*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Transport{
		cfg: cfg, lot: newLot(),
		buffers: sync.Pool{New: func() any {
			b := make([]byte, readSize)
			return &b
		}},
		cutters: sync.Pool{New: func() any { return wsframe.New(cfg.MaxMessage) }},
	}
}

func positive[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}
