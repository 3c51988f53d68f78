package xmppproxy

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/core/downstream"
	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/session"
	"sallyport/tunnel"
)

// Stream is a stream to an XMPP server. Its features have been read; nobody has
// logged in on it yet.
type Stream interface {
	// Features are the server's <stream:features/>.
	Features() []byte
	// Write queues whole elements and never blocks. After an error the stream
	// ends.
	Write(p []byte) error
	// Restart sends a new header after a login, and returns the new features.
	Restart(ctx context.Context) ([]byte, error)
	// Next reads one element, io.EOF at the end of the stream. It is used before
	// Run.
	Next(ctx context.Context) (*stanza.Element, error)
	// Run hands over each element, until the stream ends: nil after its end tag.
	// While each has not returned, nothing is read.
	Run(each func(*stanza.Element)) error
	// Queued is how many bytes wait for the server.
	Queued() int
	// Close ends the stream and does not wait: with an end tag, or by the socket
	// alone. It may be called more than once.
	Close(clean bool)
}

// Domain is one XMPP domain and the way to its server.
type Domain struct {
	Name string // lower-case
	// SharedCert: clients see the server's own certificate.
	SharedCert bool
	// Open connects a client, whose address may be told to the server. An error
	// with a method Condition names the stream error that the client is told.
	Open func(ctx context.Context, client netip.Addr, lang string) (Stream, error)
}

// Config is what the operator decided. Zero numbers stand for the defaults.
type Config struct {
	Domains []Domain
	Policy  session.Policy
	// Swap resumes each session through the server, also where a look at the
	// login would do.
	Swap bool

	Sessions int           // of all users; 50,000
	PerUser  int           // sessions of one; 64
	Logins   int           // under way at once; 1,000, an eighth of them from one address
	Login    time.Duration // how long one may take; 60 s
}

// Deps are the rooms that the proxy works with.
type Deps struct {
	Store    session.Store
	Notifier Notifier              // nil pushes nothing
	Log      *slog.Logger          // nil discards
	Registry prometheus.Registerer // nil counts for nobody
}

// Proxy serves XMPP clients. It is the handler of their flows.
type Proxy struct {
	// Static after New.
	cfg     Config
	domains map[string]*Domain
	notes   Notifier
	log     *slog.Logger
	lines   *registry
	agenda  *agenda
	journal *journal
	alerts  *alerts
	metrics *metrics
	logins  *places // a place for each login under way
	ready   chan struct{}

	// life ends with Run; what it starts is counted in work.
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup
}

// New makes a proxy. It starts nothing.
func New(cfg Config, d Deps) *Proxy {
	def := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	def(&cfg.Sessions, 50_000)
	def(&cfg.PerUser, 64)
	def(&cfg.Logins, 1000)
	if cfg.Login == 0 {
		cfg.Login = time.Minute
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Notifier == nil {
		d.Notifier = nobody{}
	}
	p := &Proxy{
		cfg: cfg, domains: make(map[string]*Domain), notes: d.Notifier, log: d.Log.With("room", "xmpp"),
		lines: newRegistry(), agenda: newAgenda(), logins: newPlaces(cfg.Logins), ready: make(chan struct{}),
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.journal = &journal{store: d.Store, ctx: p.life, log: p.log, most: maxWriters}
	p.alerts = &alerts{p: p, every: relogin}
	for i := range cfg.Domains {
		p.domains[strings.ToLower(cfg.Domains[i].Name)] = &cfg.Domains[i]
	}
	p.metrics = newMetrics(d.Registry, p)
	return p
}

// Ready is closed when what was stored has been read, and clients may come.
func (p *Proxy) Ready() <-chan struct{} { return p.ready }

// Run serves until ctx ends. Then each session is written down and left as its
// client would find it after a broken connection; nothing is left behind.
func (p *Proxy) Run(ctx context.Context) error {
	defer p.end()
	if err := p.load(ctx); err != nil {
		return err
	}
	close(p.ready)
	p.agenda.run(ctx)
	p.leave()
	p.end()
	p.lines.each(func(l *line) { l.drop() })
	p.work.Wait()
	p.journal.work.Wait()
	return nil
}

// Opened implements downstream.Handler. A flow that lived before this core did
// has a stream nobody knows the state of: its client is told to come again,
// and resumes.
func (p *Proxy) Opened(f *downstream.Flow) {
	if f.Reopened() {
		f.Close(tunnel.CloseReconnect, "the stream is not known here any more")
		return
	}
	c := newConn(p, f)
	f.SetUser(c)
	p.agenda.at(c, time.Now().Add(p.cfg.Login))
}

// Message implements downstream.Handler.
func (p *Proxy) Message(f *downstream.Flow, b []byte) {
	if c, ok := f.User().(*conn); ok {
		c.message(b)
	}
}

// Part implements downstream.PartHandler.
func (p *Proxy) Part(f *downstream.Flow, b []byte) {
	if c, ok := f.User().(*conn); ok {
		c.part(b)
	}
}

// Changed implements downstream.Handler.
func (p *Proxy) Changed(f *downstream.Flow) {
	c, ok := f.User().(*conn)
	if !ok {
		return
	}
	if l := c.lineOf(); l != nil {
		l.attention(c, f.Attention().Silent)
	}
}

// Closed implements downstream.Handler.
func (p *Proxy) Closed(f *downstream.Flow, code tunnel.CloseCode, text string) {
	if c, ok := f.User().(*conn); ok {
		p.log.Debug("flow closed", "flow", f.ID(), "code", code, "text", text)
		c.lost()
	}
}
