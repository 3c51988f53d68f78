package xmppproxy

import (
	"context"
	"encoding/base64"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sallyport/core/downstream"
	"sallyport/core/xmppproxy/session"
	"sallyport/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a proxy between an edge and a server, in a bubble.
type world struct {
	*server
	t        *testing.T
	store    *Memory
	proxy    *Proxy
	edge     *tunnel.Acceptor
	next     byte
	remote   netip.AddrPort // of the next phone; zero is 192.0.2.1
	notifier Notifier       // nil pushes nothing
	stop     context.CancelFunc
	over     sync.WaitGroup
}

// within tells a story in a bubble.
func within(t *testing.T, change func(*Config), story func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, server: newServer(), store: NewMemory()}
		w.start(change)
		story(w)
		w.end()
	})
}

// start starts a core, again after end.
func (w *world) start(change func(*Config)) {
	cfg := Config{
		Domains: []Domain{w.domain()},
		Policy: session.Policy{
			Stanzas: 2000, Bytes: 4 << 20, Keep: 168 * time.Hour, ResumeMax: 24 * time.Hour, AwayDelay: 10 * time.Second,
		},
	}
	if change != nil {
		change(&cfg)
	}
	w.proxy = New(cfg, Deps{Store: w.store, Notifier: w.notifier})
	flows := downstream.New(map[string]downstream.Handler{"xmpp": w.proxy}, 2, nil)
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	calls := make(chan net.Conn)
	w.edge = tunnel.NewAcceptor(tunnel.AcceptorConfig{Name: "edge1", Boot: 0xab,
		Handshake: func(_ context.Context, c net.Conn) (net.Conn, string, error) { return c, "core1", nil }})
	dialer := tunnel.NewDialer(tunnel.DialerConfig{Name: "core1", Edges: []string{"edge1:1"}, Open: flows.Open, Links: 1,
		Dial: func(ctx context.Context, _ string) (net.Conn, string, error) {
			near, far := net.Pipe()
			select {
			case calls <- far:
				return near, "edge1", nil
			case <-ctx.Done():
				return nil, "", ctx.Err()
			}
		}})
	proxyCtx, proxyEnd := context.WithCancel(context.Background())
	w.over.Go(func() { _ = w.proxy.Run(proxyCtx) })
	<-w.proxy.Ready()
	w.over.Go(func() { _ = w.edge.Serve(ctx, &listener{calls: calls, done: make(chan struct{})}) })
	w.over.Go(func() {
		var inner sync.WaitGroup
		inner.Go(func() { _ = dialer.Run(ctx) })
		inner.Go(func() { _ = flows.Run(ctx) })
		inner.Wait()
		proxyEnd()
	})
	synctest.Wait()
}

func (w *world) end() {
	w.stop()
	w.over.Wait()
}

type listener struct {
	calls chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.calls:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error { l.once.Do(func() { close(l.done) }); return nil }
func (*listener) Addr() net.Addr { return &net.TCPAddr{} }

// phone is a client's flow, by hand.
type phone struct {
	w    *world
	flow *tunnel.Flow

	mu     sync.Mutex
	stuck  bool   // reads nothing
	owed   int    // not consumed
	text   string // that was not read yet
	closed string // how the flow ended
}

func (w *world) phone(transport string) *phone {
	w.t.Helper()
	w.next++
	p := &phone{w: w}
	remote := w.remote
	if !remote.IsValid() {
		remote = netip.MustParseAddrPort("192.0.2.1:4000")
	}
	f, err := w.edge.Open(tunnel.Info{UUID: [16]byte{w.next}, Service: "xmpp", Transport: transport, Public: "edge.example.com:5223",
		Remote: remote, Since: time.Now()}, p)
	if err != nil {
		w.t.Fatal(err)
	}
	p.flow = f
	synctest.Wait()
	return p
}

// Message implements tunnel.Handler.
func (p *phone) Message(f *tunnel.Flow, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text += string(b)
	if p.stuck {
		p.owed += len(b)
		return
	}
	f.Consumed(len(b))
}

// Event implements tunnel.Handler.
func (*phone) Event(*tunnel.Flow, tunnel.Event) {}

// Closed implements tunnel.Handler.
func (p *phone) Closed(_ *tunnel.Flow, code tunnel.CloseCode, _ string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = code.String()
}

func (p *phone) say(text string) {
	p.w.t.Helper()
	if err := p.flow.Send([]byte(text)); err != nil {
		p.w.t.Fatalf("%q: %v", text, err)
	}
	synctest.Wait()
}

// heard returns what came since, and forgets it.
func (p *phone) heard() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.text
	p.text = ""
	return text
}

// hears wants this in what comes next.
func (p *phone) hears(want ...string) string {
	p.w.t.Helper()
	text := p.heard()
	for _, part := range want {
		if !strings.Contains(text, part) {
			p.w.t.Errorf("the client heard %q, want %q in it", text, part)
		}
	}
	return text
}

// end is how the flow ended, "" while it lives.
func (p *phone) end() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *phone) reset() {
	p.flow.Close(tunnel.CloseReset, "")
	synctest.Wait()
}

const header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='example.com' version='1.0'>"

// auth is a login by PLAIN.
func auth(user, password string) string {
	return "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" +
		base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)) + "</auth>"
}

// logsIn goes as far as the features after a login.
func (p *phone) logsIn(user string) {
	p.w.t.Helper()
	p.say(header)
	p.hears("<stream:stream ", "<mechanism>PLAIN</mechanism>")
	p.say(auth(user, "pw"))
	p.hears("<success ")
	p.say(header)
	p.hears("<stream:stream ", "<bind ", "<sm xmlns='urn:xmpp:sm:3'/><csi xmlns='urn:xmpp:csi:0'/>")
}

func (p *phone) binds(resource string) {
	p.w.t.Helper()
	p.say("<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>" + resource + "</resource></bind></iq>")
	p.hears("<jid>", "/"+resource+"</jid>")
}

var idIn = regexp.MustCompile(`<enabled [^>]*id='([^']+)'`)

// enables asks for stream management and returns the previd.
func (p *phone) enables() string {
	p.w.t.Helper()
	p.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
	m := idIn.FindStringSubmatch(p.hears("<enabled "))
	if m == nil {
		p.w.t.Fatal("no previd")
	}
	return m[1]
}

// online is a client with a session that can be resumed.
func (w *world) online(user, resource string) (*phone, string) {
	w.t.Helper()
	p := w.phone("tls")
	p.logsIn(user)
	p.binds(resource)
	id := p.enables()
	p.say("<presence><status>here</status></presence>")
	return p, id
}

func (p *phone) resumes(id string, h string) {
	p.say("<resume xmlns='urn:xmpp:sm:3' h='" + h + "' previd='" + id + "'/>")
}
