package im

import (
	"context"
	"errors"
	"time"
)

// Entry is a message in the store.
type Entry struct {
	Seq     uint64 // order of arrival; made by the store
	Device  string // who it is for
	Key     string // names the message, 22 characters of base64url; copies for other devices have the same
	Sender  uint64 // tells senders apart; 0 is nobody
	Added   time.Time
	Expires time.Time
}

// Store keeps messages. Several cores may share one. All methods are safe for
// concurrent use.
type Store interface {
	// Add stores a message and returns when it is on disk: it then outlives the
	// death of the process and a loss of power. A message of the same key that was
	// added for the same device a while ago is not added again, which is no error;
	// added is false then. The error is [ErrFull] when the store has no room.
	Add(ctx context.Context, e Entry, data []byte) (seq uint64, added bool, err error)
	// Get returns what was stored, or [ErrNotHeld].
	Get(ctx context.Context, seq uint64) (data []byte, err error)
	// Remove ends a message, and reports whether it was there; one that is not is no
	// error.
	Remove(ctx context.Context, device string, seq uint64) (removed bool, err error)
	// Follow gives every stored message to held, in their order, then calls
	// caughtUp, and then gives each that is added, by this core or another; what
	// another core removes, it gives to removed. It returns when ctx ends, or with
	// an error; then it may be called again. The functions are called by one
	// goroutine at a time, and do not block.
	Follow(ctx context.Context, held func(Entry), removed func(device string, seq uint64), caughtUp func()) error
}

// Sealer keeps what a message says from whoever reads the store. name is not
// secret; a value opens under the name alone under which it was sealed.
type Sealer interface {
	Seal(name string, plain []byte) []byte
	Open(name string, sealed []byte) (plain []byte, stale bool, err error)
}

// Why a message is not held.
var (
	// ErrFull: as many messages are held for the user, the device or all as may be.
	ErrFull = errors.New("too many messages are held")
	// ErrTooBig: the message is longer than [MaxSize].
	ErrTooBig = errors.New("message too big to be held")
	// ErrBusy: too many messages arrive at a time.
	ErrBusy = errors.New("too many messages at a time")
	// ErrStopped: the service has ended, or has not begun.
	ErrStopped = errors.New("shutting down")
	// ErrNotHeld: the store has no such message.
	ErrNotHeld = errors.New("message not held")
)
