package downstream

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/tunnel"
)

// Handler is told what happens on flows. The calls for one flow come one at a
// time and in order; calls for different flows may run at the same time. A
// handler may block for a moment, never for a wait: other flows share its worker.
type Handler interface {
	// Opened says that a client is connected; see [Flow.Reopened].
	Opened(f *Flow)
	// Message hands over one whole message. p is valid until return.
	Message(f *Flow, p []byte)
	// Changed says that the client fell silent or was heard again.
	Changed(f *Flow)
	// Closed is the last call for a flow, whoever ended it.
	Closed(f *Flow, code tunnel.CloseCode, text string)
}

// Flows holds every live flow of this core.
type Flows struct {
	// Static after New.
	handlers map[string]Handler // by service
	log      *slog.Logger
	shards   []*shard
	seed     maphash.Seed

	mu   sync.RWMutex
	byID map[string]*Flow // guarded by mu
}

// New returns an empty table whose messages are handled by workers goroutines
// once [Flows.Run] runs: those of a service by the handler of that name, such
// as "sip". The map must not be changed any more.
func New(handlers map[string]Handler, workers int, log *slog.Logger) *Flows {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	fs := &Flows{
		handlers: handlers, log: log.With("room", "downstream"),
		seed: maphash.MakeSeed(), byID: make(map[string]*Flow),
	}
	for range max(workers, 1) {
		fs.shards = append(fs.shards, newShard())
	}
	return fs
}

// Run handles what arrives until ctx ends and leaves no worker behind.
func (fs *Flows) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range fs.shards {
		wg.Go(s.run)
	}
	<-ctx.Done()
	for _, s := range fs.shards {
		s.stop()
	}
	wg.Wait()
	return nil
}

// Open takes a flow that an edge offers; it is the tunnel dialer's Open. A
// flow for a service without a handler is refused with nil.
func (fs *Flows) Open(t *tunnel.Flow) tunnel.Handler {
	info := t.Info()
	h := fs.handlers[info.Service]
	if h == nil {
		fs.log.Warn("flow refused: no such service", "service", info.Service)
		return nil
	}
	f := &Flow{owner: fs, handler: h, tunnel: t, id: FlowID(t.Peer(), info.UUID), silent: info.Silent}
	f.shard = fs.shards[maphash.String(fs.seed, f.id)%uint64(len(fs.shards))]
	fs.mu.Lock()
	old := fs.byID[f.id]
	fs.byID[f.id] = f
	fs.mu.Unlock()
	if old != nil { // the same uuid again: the edge has lost the old one
		old.shard.put(job{f: old, kind: jobClosed, code: tunnel.CloseTunnelLost})
	}
	f.shard.put(job{f: f, kind: jobOpened})
	if _, parts := h.(PartHandler); parts {
		return partReceiver{receiver{f}}
	}
	return receiver{f}
}

// Services names what has a handler, sorted.
func (fs *Flows) Services() []string { return slices.Sorted(maps.Keys(fs.handlers)) }

// Get returns the live flow of that id, or nil.
func (fs *Flows) Get(id string) *Flow {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.byID[id]
}

// Len returns how many flows are live.
func (fs *Flows) Len() int {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return len(fs.byID)
}

// All returns the live flows of a service, in no order.
func (fs *Flows) All(service string) []*Flow {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	all := make([]*Flow, 0, len(fs.byID))
	for _, f := range fs.byID {
		if f.Info().Service == service {
			all = append(all, f)
		}
	}
	return all
}

func (fs *Flows) forget(f *Flow) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.byID[f.id] == f {
		delete(fs.byID, f.id)
	}
}

// FlowID names a flow among all edges and all their lives: edge name, boot id
// and the uuid that the edge gave the connection, "edge1/9f0c…/6d2e…".
func FlowID(p tunnel.Peer, uuid [16]byte) string {
	var b strings.Builder
	b.Grow(len(p.Name) + 16 + 32 + 2)
	b.WriteString(p.Name)
	b.WriteByte('/')
	b.WriteString(strconv.FormatUint(p.Boot, 16))
	b.WriteByte('/')
	b.WriteString(hex.EncodeToString(uuid[:]))
	return b.String()
}

// Edge returns the name of the edge in a flow id.
func Edge(flowID string) string {
	edge, _, _ := strings.Cut(flowID, "/")
	return edge
}

// A Flow is one client connection (RFC 5626 §2.1).
type Flow struct {
	// Static after Open.
	owner   *Flows
	handler Handler
	tunnel  *tunnel.Flow
	id      string
	shard   *shard

	gone bool // owned by the shard's worker: Closed has been called

	// Guarded by mu: what is known of the client's attention.
	mu         sync.Mutex
	silent     bool
	inactive   bool
	unanswered bool
	user       any
	// Guarded by mu: whether credit is held back, and how much.
	hold bool
	owed int
}

// ID names the flow; see [FlowID].
func (f *Flow) ID() string { return f.id }

// Info is what the edge said of the connection. It must not be changed.
func (f *Flow) Info() *tunnel.Info { return f.tunnel.Info() }

// Edge names the edge that holds the connection.
func (f *Flow) Edge() string { return f.tunnel.Peer().Name }

// Reopened says that the flow lived before this core, or this session, did.
func (f *Flow) Reopened() bool { return f.tunnel.Info().Reopened }

// Secure transports of the Via header and of URIs: TLS and tls, or WSS and ws
// (RFC 7118 §5.2: "ws" in URIs of either kind).
func (f *Flow) Secure() (via, uri string) {
	if f.tunnel.Info().Transport == "wss" {
		return "WSS", "ws"
	}
	return "TLS", "tls"
}

// Since is when the client connected.
func (f *Flow) Since() time.Time { return f.tunnel.Info().Since }

// Send queues one message for the client and never blocks. It fails when the
// flow is gone, or when the client has left a whole window unread.
func (f *Flow) Send(p []byte) error {
	if err := f.tunnel.Send(p); err != nil {
		return fmt.Errorf("flow: %w", err)
	}
	return nil
}

// Close ends the flow; the handler hears of it as of any other end.
func (f *Flow) Close(code tunnel.CloseCode, text string) {
	f.tunnel.Close(code, text)
	f.shard.put(job{f: f, kind: jobClosed, code: code, text: text})
}

// Attention is what the client and its keep-alives said last.
type Attention struct {
	Silent     bool // keep-alives stopped
	Inactive   bool // Client-State: inactive
	Unanswered bool // a request was sent and nothing came within 2 s
}

// Attention returns what is known now.
func (f *Flow) Attention() Attention {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Attention{Silent: f.silent, Inactive: f.inactive, Unanswered: f.unanswered}
}

// SetInactive notes what the client said of itself (Client-State).
func (f *Flow) SetInactive(v bool) { f.mu.Lock(); f.inactive = v; f.mu.Unlock() }

// SetUnanswered notes that a request went out and nothing came back. Any
// message from the client takes it back.
func (f *Flow) SetUnanswered() { f.mu.Lock(); f.unanswered = true; f.mu.Unlock() }

// SetUser keeps v with the flow for its handler; [Flow.User] returns it.
func (f *Flow) SetUser(v any) { f.mu.Lock(); f.user = v; f.mu.Unlock() }

// User returns what SetUser kept, or nil.
func (f *Flow) User() any { f.mu.Lock(); defer f.mu.Unlock(); return f.user }

func (f *Flow) heard() { f.mu.Lock(); f.unanswered = false; f.mu.Unlock() }

func (f *Flow) setSilent(v bool) (changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed = f.silent != v
	f.silent = v
	return changed
}
