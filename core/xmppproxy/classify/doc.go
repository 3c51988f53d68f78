// Package classify says what a stanza that waits is worth to its reader: a
// ring, a push, or nothing; and what the push may say of it.
//
// It is pure. It knows neither who is away nor what was pushed before, and
// trusts no sender further than the server did.
package classify

import "time"

// Class is what a stanza is worth.
type Class uint8

// The classes.
const (
	// None: it waits and tells nobody.
	None Class = iota
	// Low: it is told of when that costs nothing (a subscription request).
	Low
	// Message: there is something to read.
	Message
	// Call: somebody calls.
	Call
	// Missed: a call that was told of is over, and nobody took it.
	Missed
	// Taken: a call that was told of was taken or refused on another device of
	// the user's.
	Taken
)

// String names the class.
func (c Class) String() string {
	return [...]string{"none", "low", "message", "call", "missed", "taken"}[c]
}

// Self is whose client the stanza is for.
type Self struct {
	JID string // bare
	// Nick is the name that the client has in a room, "" if that is not known; nil
	// knows none.
	Nick func(room string) string
}

// Verdict is what was found. Texts are the sender's and may be hostile.
type Verdict struct {
	Class Class
	// Why names the rule that made it None.
	Why string
	// Key is the same for all copies of what was sent, such as the carbon that
	// another client of the user gets; at most 64 bytes.
	Key string
	// Conversation is the bare JID of the peer or of the room.
	Conversation string
	// Sender is the JID that wrote it: a bare one, and an occupant's in a room.
	Sender string
	// Name is the sender's in a room, "" elsewhere.
	Name string
	// Text is what was written, at most [MaxText] bytes; "" where it is encrypted.
	Text      string
	Encrypted bool
	// Stored is since when it waited elsewhere, by its own word; zero if it did not.
	Stored time.Time
	// Urgent: the user is mentioned (XEP-0372).
	Urgent bool
	// Carbon: it was sent to another client of the user's.
	Carbon bool
	// CallID is the id of a Call, Missed or Taken: that of XEP-0353, or the sid of
	// XEP-0166, which is the same.
	CallID string
	Video  bool
}

// MaxText is how much of a text is taken: more than any screen shows.
const MaxText = 1024
