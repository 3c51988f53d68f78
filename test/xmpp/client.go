package xmpp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// ClientConfig says who a client is and where it connects.
type ClientConfig struct {
	// JID is the bare JID, Resource what it asks for; "" lets the server choose.
	JID, Password, Resource string
	// URL is tcp://, starttls:// or tls://HOST:PORT, or ws:// or wss:// with a path.
	URL string
	// TLS is what it trusts; not needed for tcp and ws.
	TLS *tls.Config
	// Mechanism is the SASL mechanism; "" takes SCRAM-SHA-1, or PLAIN where
	// that is all.
	Mechanism string
	// GS2 is the start of a SCRAM login; "" is "n,,": a client without channel
	// binding. "y,,": with one, to a server without.
	GS2 string
	// NoSM leaves out XEP-0198.
	NoSM bool
	// Mute leaves requests of others unanswered.
	Mute bool
	// Heard is told each stanza in the order of the wire, under the lock under
	// which h is counted: it must not call the client. What it returns true for
	// is dealt with; the rest is kept for [Client.Expect].
	Heard func(*Stanza) bool
}

// Client is one login with XEP-0198, over as many connections as it takes.
// Its methods may be called at the same time, but for those that connect and end.
type Client struct {
	cfg          ClientConfig
	user, domain string

	sending sync.Mutex // orders what is queued as it is written

	mu      sync.Mutex
	conn    *conn         // nil while not connected
	done    chan struct{} // of conn's reader, closed when it ended
	err     error         // that ended the last connection
	jid     string        // full, once bound
	smID    string        // "" while not resumable
	counted bool          // SM is on, both ways
	h       uint32        // stanzas that came
	acked   uint32        // of ours, by the server
	queue   [][]byte      // of ours that it has not acknowledged
	inbox   []*Stanza     // that Expect has not taken
	changed chan struct{} // closed when anything of these changes
	offered *Stanza       // features after login
}

// NewClient makes a client that is not connected.
func NewClient(cfg ClientConfig) *Client {
	user, domain, _ := strings.Cut(cfg.JID, "@")
	if cfg.GS2 == "" {
		cfg.GS2 = "n,,"
	}
	return &Client{cfg: cfg, user: user, domain: domain, changed: make(chan struct{})}
}

// NotResumed says that a session could not be resumed (XEP-0198 §5). The client
// is logged in and may [Client.Bind].
type NotResumed struct {
	Raw []byte
	H   string // what the server had counted, "" if it did not say
}

// Error is the element itself.
func (e *NotResumed) Error() string { return "not resumed: " + string(e.Raw) }

// Connect logs in anew, binds, and enables XEP-0198. No presence is sent.
func (c *Client) Connect(ctx context.Context) error {
	next, err := c.login(ctx)
	if err != nil {
		return err
	}
	return c.bind(ctx, next)
}

// login connects and authenticates.
func (c *Client) login(ctx context.Context) (*conn, error) {
	c.Reset()
	next, err := dial(ctx, c.cfg.URL, c.domain, c.cfg.TLS)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, next.reset)
	defer stop()
	features, err := next.open()
	if err == nil {
		features, err = login(next, c.mechanism(features), c.cfg.GS2, c.user, c.cfg.Password)
	}
	if err != nil {
		next.reset()
		return nil, fmt.Errorf("%s at %s: %w", c.cfg.JID, c.cfg.URL, errors.Join(err, context.Cause(ctx)))
	}
	c.mu.Lock()
	c.offered = features
	c.mu.Unlock()
	return next, nil
}

func (c *Client) mechanism(features *Stanza) string {
	if c.cfg.Mechanism != "" {
		return c.cfg.Mechanism
	}
	for _, name := range mechanisms(features) {
		if name == "SCRAM-SHA-1" {
			return name
		}
	}
	return "PLAIN"
}

// bind binds a resource on a stream that is logged in.
func (c *Client) bind(ctx context.Context, next *conn) error {
	stop := context.AfterFunc(ctx, next.reset)
	defer stop()
	resource := ""
	if c.cfg.Resource != "" {
		resource = "<resource>" + escape(c.cfg.Resource) + "</resource>"
	}
	answer, err := c.ask(next, "<iq xmlns='"+NSClient+"' type='set' id='bind'><bind xmlns='"+NSBind+"'>"+resource+"</bind></iq>")
	if err == nil && answer.Type() != "result" {
		err = fmt.Errorf("bind was answered by %s", answer.Raw)
	}
	if err != nil {
		next.reset()
		return err
	}
	jid := string(answer.Raw)
	if _, after, ok := strings.Cut(jid, "<jid>"); ok {
		jid, _, _ = strings.Cut(after, "</jid>")
	}
	c.mu.Lock()
	c.jid, c.smID, c.counted, c.h, c.acked, c.queue = jid, "", false, 0, 0, nil
	c.mu.Unlock()
	if !c.cfg.NoSM {
		if answer, err = c.ask(next, "<enable xmlns='"+NSSM+"' resume='true'/>"); err == nil && !answer.Is(NSSM, "enabled") {
			err = fmt.Errorf("enable was answered by %s", answer.Raw)
		}
		if err != nil {
			next.reset()
			return err
		}
		c.mu.Lock()
		c.counted, c.smID = true, answer.Attrs["id"]
		c.mu.Unlock()
	}
	c.attach(next)
	return nil
}

// ask writes an element of the login and reads the answer. A server may send
// messages as soon as a resource is bound; these are not counted yet.
func (c *Client) ask(next *conn, text string) (*Stanza, error) {
	if err := next.write([]byte(text)); err != nil {
		return nil, err
	}
	for {
		answer, err := next.read()
		if err != nil || !answer.IsStanza() || answer.Name == "iq" && answer.ID() == "bind" {
			return answer, err
		}
		c.mu.Lock()
		c.deliver(answer)
		c.mu.Unlock()
	}
}

// Resume connects, logs in and resumes the session, and sends again what the
// server has not had. It returns a [*NotResumed] where the server does not.
func (c *Client) Resume(ctx context.Context) error {
	next, err := c.login(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, next.reset)
	defer stop()
	c.sending.Lock()
	defer c.sending.Unlock()
	c.mu.Lock()
	h, id := c.h, c.smID
	c.mu.Unlock()
	answer, err := c.ask(next, "<resume xmlns='"+NSSM+"' previd='"+escape(id)+"' h='"+strconv.FormatUint(uint64(h), 10)+"'/>")
	if err != nil {
		next.reset()
		return err
	}
	if !answer.Is(NSSM, "resumed") {
		c.mu.Lock()
		c.conn, c.counted, c.smID = next, false, "" // for Bind
		c.mu.Unlock()
		return &NotResumed{Raw: answer.Raw, H: answer.Attrs["h"]}
	}
	c.mu.Lock()
	err = c.ack(answer.Attrs["h"])
	again := c.queue[:len(c.queue):len(c.queue)]
	c.mu.Unlock()
	for _, p := range again {
		err = errors.Join(err, next.write(p))
	}
	if err != nil {
		next.reset()
		return err
	}
	c.attach(next)
	return nil
}

// Bind binds anew after a [*NotResumed], on the same stream. What had not been
// acknowledged is forgotten.
func (c *Client) Bind(ctx context.Context) error {
	c.mu.Lock()
	next := c.conn
	c.conn = nil
	c.mu.Unlock()
	if next == nil {
		return errors.New("not connected")
	}
	return c.bind(ctx, next)
}

// attach makes next the connection, and reads it.
func (c *Client) attach(next *conn) {
	done := make(chan struct{})
	c.mu.Lock()
	c.conn, c.done, c.err = next, done, nil
	c.tell()
	c.mu.Unlock()
	go func() {
		defer close(done)
		c.read(next)
	}()
}

// tell wakes whoever waits. c.mu is held.
func (c *Client) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// take ends the client's hold on its connection and returns both.
func (c *Client) take() (*conn, chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, done := c.conn, c.done
	c.conn, c.done = nil, nil
	return was, done
}

// Reset ends the connection by a TCP RST. The session can be resumed.
func (c *Client) Reset() { c.end((*conn).reset) }

// Drop ends the connection by a FIN, without ending the stream.
func (c *Client) Drop() { c.end((*conn).drop) }

func (c *Client) end(how func(*conn)) {
	was, done := c.take()
	if was == nil {
		return
	}
	how(was)
	if done != nil {
		<-done
	}
}

// Close acknowledges what came, ends the stream and with it the session, and
// waits until the server has ended its own or ctx is over.
func (c *Client) Close(ctx context.Context) {
	c.mu.Lock()
	was, done, counted, count := c.conn, c.done, c.counted, c.count()
	c.mu.Unlock()
	if was == nil {
		return
	}
	if counted {
		_ = was.write([]byte(count))
	}
	if was.bye() == nil && done != nil {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
	c.Drop()
}

// lastID numbers requests of all clients.
var lastID atomic.Uint64
