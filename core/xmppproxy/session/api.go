package session

import (
	"context"
	"errors"
	"time"

	"sallyport/core/stanza"
)

// Out is what a session has done. It is called from within the session's
// methods and must neither block nor call the session. All bytes handed over
// are valid until the call returns.
type Out interface {
	// ToClient sends one element on the client's flow.
	ToClient(p []byte)
	// ToServer sends one element on the upstream stream.
	ToServer(p []byte)

	// Put replaces the session's record. Like Append it is answered by
	// [Session.Stored]; of both together at most one is under way.
	Put(record []byte)
	// Append adds an entry to the session's journal.
	Append(entry []byte)
	// Trim drops the entries up to a position. It is not answered.
	Trim(upTo uint64)
	// Fetch reads entries from a position on, about [FetchBytes] of them, at
	// least one. It is answered by [Session.Fetched]; at most one is under way.
	Fetch(from uint64)
	// Remove drops record and journal. It is the last call for the store.
	Remove()

	// Push says that a stanza from the server is safe and waits for a client
	// that does not listen. It is said once for each stanza, and not for those
	// that wait since before a restart. id names the stanza in this session.
	Push(e *stanza.Element, id uint64)
	// Alert asks for a push without content.
	Alert(Alert)
	// Changed says that [Session.State] is another one now.
	Changed(State)
	// SwapReady answers [Session.PrepareSwap]: the fresh stream is to send
	// <resume/> with this previd and h.
	SwapReady(previd string, h uint32)
	// CloseServer ends the upstream stream: cleanly with an end tag, else by
	// its socket alone, so that the server keeps what it was not told is safe.
	// Nothing of that stream is to come in any more.
	CloseServer(clean bool)
	// CloseClient ends the client's flow: with this stream error and an end
	// tag; or, without one, by its socket alone, so that the client resumes.
	// [Session.ClientLost] need not be called.
	CloseClient(streamError []byte)
}

// Alert is a reason to wake a client without a stanza.
type Alert uint8

const (
	// Relogin: the server's stream is lost, and only the client can log in
	// again.
	Relogin Alert = iota
	// Full: what came last did not fit; the server keeps it for the next login.
	Full
)

// State is where a session stands.
type State uint8

// The states.
const (
	// Active: the client listens.
	Active State = iota
	// Silent: it has a flow and does not answer.
	Silent
	// Inactive: it has a flow and said that nobody looks (XEP-0352).
	Inactive
	// Away: it has no flow; the server's stream is kept for it.
	Away
	// Orphan: neither flow nor server; a swap can bring both back.
	Orphan
	// Retired: nothing can be resumed; what waits is kept for the next login.
	Retired
	// Ended: there is nothing left; the session is to be forgotten.
	Ended
)

// String names the state.
func (s State) String() string {
	return [...]string{"active", "silent", "inactive", "away", "orphan", "retired", "ended"}[s]
}

// Suspended reports whether what the server sends has to wait.
func (s State) Suspended() bool { return s != Active && s != Ended }

// Presence says what contacts see of a client that is away.
type Presence uint8

// The ways.
const (
	ShowAway        Presence = iota // away, with what the client said of itself
	KeepPresence                    // what the client said last
	ShowUnavailable                 // offline
)

// Policy is what an operator decides, and the same for all sessions.
type Policy struct {
	Stanzas   int           // held for one session at most
	Bytes     int           // of them
	Keep      time.Duration // how long a retired session keeps what waits
	ResumeMax time.Duration // how long a client may be away
	// Unpushable is how long a client may be away that no push can reach; 0:
	// as long as any.
	Unpushable time.Duration
	Presence   Presence
	AwayDelay  time.Duration // after a flow was lost or went silent
	// Undercount corrects clients that do not count the answers to their own
	// requests (@xmpp/client 0.14), once three acknowledgements showed it.
	Undercount bool
}

// Config is what is known of one session when it begins.
type Config struct {
	ID       string // the client's previd, unguessable; at most 64 bytes
	JID      string // full JID, as bound
	ServerSM bool   // the server offers urn:xmpp:sm:3
	Pushable bool   // see [Session.Registered]
}

// Errors of [Session.Resume] and [Session.PrepareSwap]. The client got its
// answer through [Out], except after ErrNoResume.
var (
	// ErrNoResume: there is nothing to resume; it is answered item-not-found.
	ErrNoResume = errors.New("session cannot be resumed")
	// ErrNeedSwap: there is no server's stream; it takes [Session.PrepareSwap].
	ErrNeedSwap = errors.New("session has no stream to the server")
	// ErrNumber: h is a number that cannot be; the client's stream was closed.
	ErrNumber = errors.New("handled count out of range")
	// ErrCorrupt: a record or an entry is not one of ours.
	ErrCorrupt = errors.New("session record corrupt")
)

// FetchBytes is how much [Out.Fetch] reads at a time.
const FetchBytes = 64 << 10

// Entry is one of the journal.
type Entry struct {
	Pos  uint64
	Data []byte
}

// Store keeps sessions over a restart. All methods may be called concurrently
// for different sessions; for one session Put and Append come one after the
// other. What is stored is sealed by the store.
type Store interface {
	// Put replaces a session's record, at most [MaxRecord] bytes. It is on disk
	// (fsync) when Put returns: entries are trimmed on its strength.
	Put(ctx context.Context, id string, record []byte) error
	// Append adds an entry, at most [MaxEntry] bytes. It is on disk (fsync)
	// when Append returns. Positions grow within a session and are never 0.
	Append(ctx context.Context, id string, entry []byte) (pos uint64, err error)
	// Read calls each with the entries at from and behind, in order, until it
	// returns false. The bytes are valid during the call.
	Read(ctx context.Context, id string, from uint64, each func(pos uint64, entry []byte) bool) error
	// Trim drops the entries up to a position.
	Trim(ctx context.Context, id string, upTo uint64) error
	// Remove drops record and entries.
	Remove(ctx context.Context, id string) error
	// Load calls each with all records, until it returns false.
	Load(ctx context.Context, each func(id string, record []byte) bool) error
}

const (
	// MaxRecord is how long a record can be.
	MaxRecord = 20 << 10
	// MaxEntry is how long an entry can be.
	MaxEntry = 512 << 10
)
