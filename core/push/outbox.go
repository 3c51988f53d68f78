package push

import (
	"context"
	"errors"
)

// Outbox is the durable queue in which notes wait for their turn. What it takes
// is opaque to it. Several cores may share one; their rows are all handed to
// one of them at a time, which merges and sends them (ADR 25).
//
// All methods are safe for concurrent use.
type Outbox interface {
	// Add stores a row and returns when it will survive the death of this
	// process. device groups rows, for a bound per device. A row of the same key
	// that was added in the last minutes is not added again, which is no error;
	// added is false then. The error is [ErrQueueFull] when there is no room.
	Add(ctx context.Context, device, key string, row []byte) (added bool, err error)
	// Follow waits until it is this core's turn to send, and then gives row every
	// stored row, the oldest first, then caughtUp the word that these were all,
	// and then row each that is added. remove takes the row out for good; it does
	// not block, may be called at any time, and does nothing once the turn is
	// over. Follow returns when ctx ends or the turn is lost: what was not removed
	// will be handed out again, here or elsewhere. row and caughtUp are called by
	// one goroutine and may block.
	Follow(ctx context.Context, row func(row []byte, remove func()), caughtUp func()) error
	// Tell says a word to every core on the store, this one included, and
	// promises nothing. Words of one core keep their order.
	Tell(word []byte) error
	// Hear hands over the words of all cores until ctx ends.
	Hear(ctx context.Context, word func(word []byte)) error
}

// Sealer keeps what a note says from whoever reads the store. name is not
// secret; a value opens under the name alone under which it was sealed.
type Sealer interface {
	Seal(name string, plain []byte) []byte
	Open(name string, sealed []byte) (plain []byte, stale bool, err error)
}

// Why a note is not queued.
var (
	// ErrQueueFull: too many notes wait, in all or for this device.
	ErrQueueFull = errors.New("too many notes wait")
	// ErrNoRoute: the device has no token that a note could go to, or push is
	// switched off.
	ErrNoRoute = errors.New("the device cannot be pushed to")
	// ErrStopped: the service has ended.
	ErrStopped = errors.New("shutting down")
)
