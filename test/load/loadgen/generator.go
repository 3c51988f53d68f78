package loadgen

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Config says who plays.
type Config struct {
	// PBX is HOST:PORT where the generator's PBX listens; it accepts every
	// registration, call and message. Empty: no PBX.
	PBX    string
	Domain string
	// Desk is the user of the PBX that phones call and are called by.
	Desk string
	// Busy is how many phones act at once in a closed loop.
	Busy int
	// Sources is from how many addresses of the loopback net they come, up to 250.
	Sources int
	// Timeout bounds each operation.
	Timeout time.Duration
}

// A Server is what is played against: addresses are HOST:PORT.
type Server struct {
	// Clients connect to SIPS with TLS (or plainly, for TCP), to HTTPS with
	// WebSocket at Path. The PBX's own calls go to Core, over TCP.
	SIPS, HTTPS, Path, Core string
	// Watch are the processes whose CPU and memory are accounted.
	Watch []Process
}

// A Generator plays phones and PBX. Its methods measure one thing each, one
// after the other.
type Generator struct {
	// Static after New.
	cfg Config
	tls *tls.Config
	run string // distinguishes generators that follow each other
	pbx net.Listener

	// Owned by whoever measures; unchanged while flows are dialled.
	server    Server
	transport Transport
	flowCount int
	push      func(user string) string // URI parameters of a contact; may be nil
	phones    []*phone                 // those of the present measurement

	next    atomic.Uint64 // number of the next transaction or call
	ids     [256]shard
	rooms   sync.Pool
	readers sync.WaitGroup

	invite, ack, message Hist // one way, sender to receiver

	mu     sync.Mutex
	flows  map[*flow]struct{}        // guarded by mu
	faults map[string]int            // guarded by mu
	pushes map[string]chan time.Time // by Call-ID, of calls that wait for theirs; guarded by mu
	closed bool                      // guarded by mu
}

// A shard holds some of the transactions and calls under way, by number.
type shard struct {
	mu    sync.Mutex
	txs   map[uint64]*transaction // guarded by mu
	calls map[uint64]*call        // guarded by mu
}

// A transaction waits for responses; hear says whether it has ended.
type transaction struct{ hear func(m *message) (done bool) }

// New returns a generator, and opens its PBX. [Generator.Close] ends it.
func New(cfg Config) (*Generator, error) {
	g := &Generator{
		cfg: cfg, run: strconv.FormatUint(rand.Uint64()>>32, 36),
		// Any certificate will do: what is measured is the server's handshake.
		tls:    &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}},
		flows:  make(map[*flow]struct{}),
		faults: make(map[string]int),
		pushes: make(map[string]chan time.Time),
	}
	g.rooms.New = func() any { b := make([]byte, 0, 4096); return &b }
	g.next.Store(rand.Uint64() >> 16 << 16)
	for i := range g.ids {
		g.ids[i].txs, g.ids[i].calls = make(map[uint64]*transaction), make(map[uint64]*call)
	}
	if cfg.PBX != "" {
		var err error
		if g.pbx, err = net.Listen("tcp", cfg.PBX); err != nil {
			return nil, fmt.Errorf("PBX: %w", err)
		}
		g.readers.Go(g.accept)
	}
	return g, nil
}

// Against says what is played against from now on.
func (g *Generator) Against(s Server) { g.server = s }

// Switch drops all phones; from now on there are so many, on that transport.
func (g *Generator) Switch(t Transport, phones int) {
	g.rest()
	g.transport, g.flowCount = t, phones
}

// accept takes what the core connects to the PBX with.
func (g *Generator) accept() {
	for {
		conn, err := g.pbx.Accept()
		if err != nil {
			return
		}
		g.start(newServed(g, conn))
	}
}

// Close drops every connection and returns when nothing of the generator runs.
func (g *Generator) Close() {
	if g.pbx != nil {
		g.pbx.Close()
	}
	g.mu.Lock()
	g.closed = true
	for f := range g.flows {
		f.abort()
	}
	g.mu.Unlock()
	g.readers.Wait()
}

// fault counts what should not happen; results carry it.
func (g *Generator) fault(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if why := fmt.Sprintf(format, args...); len(g.faults) < 20 {
		g.faults[why]++
	}
}

func (g *Generator) takeFaults() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := g.faults
	g.faults = make(map[string]int)
	return all
}

func (g *Generator) shard(id uint64) *shard { return &g.ids[id%uint64(len(g.ids))] }

// begin makes a transaction and returns its number.
func (g *Generator) begin(hear func(*message) bool) uint64 {
	id := g.next.Add(1)
	s := g.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.txs[id] = &transaction{hear: hear}
	return id
}

func (g *Generator) end(id uint64) {
	s := g.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.txs, id)
}

// answered hands a response to its transaction.
func (g *Generator) answered(m *message) {
	id, ok := number(param(m.vias[0], "branch"), branchPrefix)
	if !ok {
		return
	}
	s := g.shard(id)
	s.mu.Lock()
	tx := s.txs[id]
	s.mu.Unlock()
	if tx != nil && tx.hear(m) {
		g.end(id)
	}
}

// ask sends a request in a transaction of its own.
func (g *Generator) ask(f *flow, r *request, hear func(*message) bool) error {
	r.branch = g.begin(hear)
	if err := f.write(func(b []byte) []byte { return r.appendTo(b, f) }); err != nil {
		g.end(r.branch)
		return err
	}
	return nil
}

// Pushed says that the push for the call of that Call-ID arrived at its
// provider.
func (g *Generator) Pushed(callID string, at time.Time) {
	g.mu.Lock()
	arrived := g.pushes[callID]
	g.mu.Unlock()
	if arrived == nil {
		return
	}
	select {
	case arrived <- at:
	default:
	}
}
