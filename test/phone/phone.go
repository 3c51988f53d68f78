package phone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
)

// What ends a wait other than its context.
var (
	// ErrAsleep: there is no connection; Connect first.
	ErrAsleep = errors.New("phone: not connected")
	// ErrLineGone: the connection ended while something was waited for.
	ErrLineGone = errors.New("phone: connection ended")
)

// Queues hold what a test has not looked at yet; more than that is refused.
const (
	maxCalls    = 16
	maxMessages = 1024
	maxWrites   = 256
)

// Phone is one SIP client. All methods may be called from any goroutine.
type Phone struct {
	// Static after New.
	cfg      Config
	err      error // what is wrong with cfg; said by Connect
	domain   string
	log      *slog.Logger
	calls    chan *Incoming
	messages chan *Message

	mu sync.Mutex
	// Guarded by mu.
	line       *line
	regCallID  string
	regCSeq    int
	regContact string   // the Contact value last registered
	services   []string // Service-Route of the last 2xx (RFC 3608)
	txs        map[string]*tx
	dialogs    map[string]*Dialog
	incoming   map[string]*Incoming
	complaints []string
	counts     map[string]int
}

// line is one live connection with its reader and writer.
type line struct {
	conn   conn
	host   string // what our Via and Contact name
	writes chan []byte
	pong   chan struct{}
	quit   chan struct{} // closed to hang up
	done   chan struct{} // closed when reader and writer have ended
	once   sync.Once
}

func (l *line) hangUp() { l.once.Do(func() { close(l.quit); l.conn.close() }) }

// send queues one message. A server that stops reading costs the connection.
func (l *line) send(p []byte) error {
	select {
	case <-l.quit:
		return ErrLineGone
	default:
	}
	select {
	case l.writes <- p:
		return nil
	default:
		l.hangUp()
		return fmt.Errorf("phone: server does not read: %w", ErrLineGone)
	}
}

// New makes a phone that is asleep; Connect wakes it. A fault in cfg is told by
// Connect.
func New(cfg Config) *Phone {
	cfg, err := cfg.withDefaults()
	p := &Phone{
		cfg: cfg, err: err, log: cfg.Log,
		calls:     make(chan *Incoming, maxCalls),
		messages:  make(chan *Message, maxMessages),
		regCallID: token(10),
		txs:       map[string]*tx{},
		dialogs:   map[string]*Dialog{},
		incoming:  map[string]*Incoming{},
		counts:    map[string]int{},
	}
	if err == nil {
		_, p.domain, _ = strings.Cut(cfg.AOR, "@")
		p.log = cfg.Log.With("phone", cfg.AOR)
	}
	return p
}

// AOR is the phone's identity, as in "sip:alice@example.com".
func (p *Phone) AOR() string { return p.cfg.AOR }

// Instance is the phone's +sip.instance URN.
func (p *Phone) Instance() string { return p.cfg.Instance }

// Calls delivers the INVITEs that open a dialog.
func (p *Phone) Calls() <-chan *Incoming { return p.calls }

// Messages delivers MESSAGE and NOTIFY requests outside a dialog, which the phone has
// answered with 200.
func (p *Phone) Messages() <-chan *Message { return p.messages }

// Count returns how many requests of a method have arrived since New.
func (p *Phone) Count(method string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[method]
}

// Complaints lists what a real client would have stumbled over so far.
func (p *Phone) Complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.complaints)
}

func (p *Phone) complain(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	p.log.Warn("complaint", "text", text)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.complaints = append(p.complaints, text)
}

// Connect opens a connection. One that is open already is closed first.
func (p *Phone) Connect(ctx context.Context) error {
	if p.err != nil {
		return p.err
	}
	p.Sleep()
	c, err := dial(ctx, p.cfg)
	if err != nil {
		return fmt.Errorf("phone %s: connect: %w", p.cfg.AOR, err)
	}
	l := &line{
		conn: c, host: p.contactHost(c.localAddr()),
		writes: make(chan []byte, maxWrites), pong: make(chan struct{}, 1),
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	p.mu.Lock()
	p.line = l
	p.mu.Unlock()
	go p.serve(l)
	return nil
}

// contactHost is where a phone says it is: nowhere over WebSocket, where only
// the connection leads to it.
func (p *Phone) contactHost(local string) string {
	if _, _, err := net.SplitHostPort(local); err != nil || p.cfg.Transport.overWebSocket() {
		return strings.ReplaceAll(p.cfg.ContactUser, " ", "") + ".invalid"
	}
	return local
}

// serve owns a line until it ends.
func (p *Phone) serve(l *line) {
	defer close(l.done)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for {
			select {
			case <-l.quit:
				return
			case b := <-l.writes:
				if err := l.conn.write(b); err != nil {
					l.hangUp()
					return
				}
			}
		}
	}()
	p.readAll(l)
	l.hangUp()
	<-written
	p.lost(l)
}

func (p *Phone) readAll(l *line) {
	for {
		raw, err := l.conn.read()
		if err != nil {
			p.log.Debug("connection ended", "err", err)
			return
		}
		switch string(raw) {
		case "\r\n\r\n":
			_ = l.send([]byte("\r\n"))
			continue
		case "\r\n":
			select {
			case l.pong <- struct{}{}:
			default:
			}
			continue
		}
		m, err := parse(raw)
		if err != nil {
			p.complain("unreadable message: %v", err)
			continue
		}
		p.log.Debug("received", "message", m.String())
		if m.Method == "" {
			p.response(m)
		} else {
			p.request(l, m)
		}
	}
}

// lost tells whoever waits that the line is gone. Server transactions end with
// it, dialogs do not: the phone may come back within a call.
func (p *Phone) lost(l *line) {
	p.mu.Lock()
	if p.line == l {
		p.line = nil
	}
	var dialogs []*Dialog
	for key, t := range p.txs {
		if t.line == l {
			delete(p.txs, key)
			if t.dialog != nil {
				dialogs = append(dialogs, t.dialog)
			}
		}
	}
	for branch, in := range p.incoming {
		if in.line == l {
			delete(p.incoming, branch)
			in.over()
		}
	}
	p.mu.Unlock()
	for _, d := range dialogs {
		d.fail(ErrLineGone)
	}
}

// current returns the live line.
func (p *Phone) current() (*line, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.line == nil {
		return nil, ErrAsleep
	}
	return p.line, nil
}

// Sleep drops the connection without a word and returns when nothing of it is
// left. Bindings, dialogs and tokens stay as the server knows them.
func (p *Phone) Sleep() {
	if l, err := p.current(); err == nil {
		l.hangUp()
		<-l.done
	}
}

// Close ends the phone; it is Sleep under the name that defer expects.
func (p *Phone) Close() { p.Sleep() }

// Gone is closed when the connection that is live now has ended.
func (p *Phone) Gone() <-chan struct{} {
	if l, err := p.current(); err == nil {
		return l.done
	}
	closed := make(chan struct{})
	close(closed)
	return closed
}

// Ping sends CRLFCRLF and waits for the CRLF that answers it (RFC 5626 §3.5.1).
// What the server sent before has then been handled: a barrier for tests.
func (p *Phone) Ping(ctx context.Context) error {
	l, err := p.current()
	if err != nil {
		return err
	}
	select { // a pong nobody waited for must not answer this ping
	case <-l.pong:
	default:
	}
	if err := l.send([]byte("\r\n\r\n")); err != nil {
		return err
	}
	select {
	case <-l.pong:
		return nil
	case <-l.done:
		return ErrLineGone
	case <-ctx.Done():
		return fmt.Errorf("phone %s: no pong: %w", p.cfg.AOR, context.Cause(ctx))
	}
}
