package sipproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sallyport/core/downstream"
	"sallyport/core/location"
	"sallyport/core/push"
	"sallyport/core/registrar"
	"sallyport/core/trace"
	"sallyport/core/upstream"
	"sallyport/core/wake"
	"sallyport/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	advertise = "10.0.0.5:5060"
	public    = "edge.example.com:5061"
)

// A town is the whole inside half around a proxy: a tunnel to an edge whose
// clients are scripts, a PBX that is a script, and a push provider that keeps
// what it was sent. It lives in a synctest bubble, so its waits take no time.
type town struct {
	t       *testing.T
	proxy   *Proxy
	loc     *location.Location
	waker   *wake.Waker
	traces  *trace.Recorder
	edge    *tunnel.Acceptor
	flows   *downstream.Flows
	pushes  *pusher
	pbx     *script
	pbxDown bool
}

// inTown runs a story in a town of its own.
func inTown(t *testing.T, story func(t *testing.T, town *town), with ...func(*Config)) {
	t.Helper()
	users := filepath.Join(t.TempDir(), "users")
	for _, u := range []string{"alice", "bob"} {
		if err := registrar.AddUser(users, "demo.example", u, "secret-"+u); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(users); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		w := buildTown(t, ctx, &wg, users, with...)
		synctest.Wait()
		story(t, w)
		cancel()
		wg.Wait()
	})
}

func buildTown(t *testing.T, ctx context.Context, wg *sync.WaitGroup, usersFile string, with ...func(*Config)) *town {
	t.Helper()
	users, err := registrar.LoadUsers(usersFile)
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, pushes: &pusher{}}
	w.loc = location.New(location.Config{Core: "core1"}, &location.Memory{}, nil)
	if err := w.loc.Load(ctx); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Core: "core1", Advertise: advertise, Window: 13 * time.Second, RingbackAfter: 5 * time.Second,
		ReconnectGrace: 5 * time.Second, PushEnabled: true, PushInForeground: true,
		Providers: []string{"apns"}, TokenKeys: [][]byte{[]byte("an old key")}, FlowTimer: 120 * time.Second,
		Domains: []Domain{
			{Name: "example.com", UpstreamExpires: 24 * time.Hour},
			{Name: "demo.example", UpstreamExpires: 24 * time.Hour,
				Registrar: registrar.New("demo.example", users, [][]byte{[]byte("a nonce key of thirty-two bytes.")})},
		},
	}
	for _, f := range with {
		f(&cfg)
	}
	w.waker = wake.New(wake.Config{Window: cfg.Window, Flow: w.flowOf}, w.pushes, w.tokenDead, nil, nil)
	w.traces = trace.New(nil, 100, nil)
	w.proxy = New(cfg, Deps{Location: w.loc, Waker: w.waker, Traces: w.traces})
	w.flows = downstream.New(w.proxy, 2, nil)
	up := upstream.New(upstream.Config{
		Upstreams: map[string][]string{"example.com": {"sip:10.0.0.9:5060;transport=tcp"}},
		DialTCP:   w.dialPBX,
	}, w.proxy.Upstream(), nil, nil)
	w.proxy.Attach(w.flows, up)
	w.edge = tunnel.NewAcceptor(tunnel.AcceptorConfig{Name: "edge1", Boot: 7,
		Handshake: func(_ context.Context, c net.Conn) (net.Conn, string, error) { return c, "core1", nil }})
	pipes := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	dialer := tunnel.NewDialer(tunnel.DialerConfig{Name: "core1", Boot: 9, Edges: []string{"edge1:1"},
		Dial: func(ctx context.Context, _ string) (net.Conn, string, error) {
			c, err := pipes.dial(ctx)
			return c, "edge1", err
		},
		Open: w.flows.Open})
	for _, run := range []func(context.Context) error{
		w.loc.Run, w.waker.Run, w.proxy.Run, w.flows.Run, up.Run, dialer.Run,
		func(ctx context.Context) error { return w.edge.Serve(ctx, pipes) },
	} {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("a room ended: %v", err)
			}
		})
	}
	return w
}

func (w *town) flowOf(device string) string {
	id, _ := location.ParseDeviceID(device)
	d, _ := w.loc.Device(id)
	return d.Flow()
}

func (w *town) tokenDead(device string, r push.Result) {
	id, _ := location.ParseDeviceID(device)
	w.loc.TokenDead(id, r.Token.Provider, r.Token.Kind, r.Token.Value, r.Reason, r.DeadSince)
}

// dialPBX connects the proxy to the PBX script.
func (w *town) dialPBX(context.Context, string) (net.Conn, error) {
	if w.pbxDown {
		return nil, fmt.Errorf("connection refused")
	}
	near, far := net.Pipe()
	w.pbx = newScript(w.t, "the PBX", func(s string) error {
		_, err := far.Write([]byte(s))
		return err
	})
	pbx := w.pbx
	go func() {
		defer far.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			for _, m := range splitMessages(string(buf[:n])) {
				pbx.hear(m)
			}
		}
	}()
	return addressed{near}, nil
}

// addressed gives a pipe the address of the PBX.
type addressed struct{ net.Conn }

func (addressed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 5060} }
func (addressed) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 40000} }

type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// A script is one end of SIP that says what the story tells it to, and keeps
// what it hears in order.
type script struct {
	t    *testing.T
	name string
	send func(string) error

	mu    sync.Mutex
	heard []string
	flow  *tunnel.Flow
	ended string
}

func newScript(t *testing.T, name string, send func(string) error) *script {
	return &script{t: t, name: name, send: send}
}

func (s *script) hear(m string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, m)
}

// client opens a flow at the edge.
func (w *town) client(name, transport string) *script {
	w.t.Helper()
	s := newScript(w.t, name, nil)
	var id [16]byte
	copy(id[:], fmt.Sprintf("%s-%d", name, time.Now().UnixNano()%1e9))
	f, err := w.edge.Open(tunnel.Info{UUID: id, Service: "sip", Transport: transport,
		Remote: netip.MustParseAddrPort("192.0.2.7:50000"), Public: public, Since: time.Now()}, clientEnd{s})
	if err != nil {
		w.t.Fatalf("%s cannot connect: %v", name, err)
	}
	s.flow, s.send = f, func(m string) error { return f.Send([]byte(m)) }
	synctest.Wait()
	return s
}

type clientEnd struct{ s *script }

func (c clientEnd) Message(f *tunnel.Flow, p []byte) { c.s.hear(string(p)); f.Consumed(len(p)) }
func (c clientEnd) Event(*tunnel.Flow, tunnel.Event) {}
func (c clientEnd) Closed(_ *tunnel.Flow, code tunnel.CloseCode, _ string) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.ended = code.String()
}

// sleeps ends the client's flow, as iOS does when the app is suspended.
func (s *script) sleeps() {
	s.flow.Close(tunnel.CloseClient, "")
	synctest.Wait()
}

// say sends a message and lets everybody come to rest.
func (s *script) say(lines ...string) {
	s.t.Helper()
	if err := s.send(message(lines...)); err != nil {
		s.t.Fatalf("%s cannot send: %v", s.name, err)
	}
	synctest.Wait()
}

// message joins lines to a message; the line "" begins the body.
func message(lines ...string) string {
	body := ""
	for i, l := range lines {
		if l == "" {
			body = strings.Join(lines[i+1:], "\r\n")
			lines = lines[:i]
			break
		}
	}
	return strings.Join(lines, "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// next returns the oldest message not yet taken, or fails.
func (s *script) next() string {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heard) == 0 {
		s.t.Fatalf("%s heard nothing", s.name)
	}
	m := s.heard[0]
	s.heard = s.heard[1:]
	return m
}

// hears takes the next message, whose first line must begin as told.
func (s *script) hears(start string) string {
	s.t.Helper()
	m := s.next()
	if !strings.HasPrefix(m, start) {
		s.t.Fatalf("%s heard %q, want %q", s.name, firstLine(m), start)
	}
	return m
}

// silence fails if there is anything not taken.
func (s *script) silence() {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.heard {
		s.t.Errorf("%s heard %q, want nothing", s.name, firstLine(m))
	}
}

func firstLine(m string) string { l, _, _ := strings.Cut(m, "\r\n"); return l }

// header returns the values of a header, in order.
func header(m, name string) (values []string) {
	head, _, _ := strings.Cut(m, "\r\n\r\n")
	for _, l := range strings.Split(head, "\r\n")[1:] {
		if n, v, ok := strings.Cut(l, ":"); ok && strings.EqualFold(strings.TrimSpace(n), name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

func first(m, name string) string {
	if v := header(m, name); len(v) > 0 {
		return v[0]
	}
	return ""
}

func splitMessages(s string) (out []string) {
	for {
		s = strings.TrimLeft(s, "\r\n") // keep-alives
		head, _, ok := strings.Cut(s, "\r\n\r\n")
		if !ok {
			return out
		}
		n := 0
		_, _ = fmt.Sscan(first(s, "Content-Length"), &n)
		end := min(len(head)+4+n, len(s))
		out, s = append(out, s[:end]), s[end:]
	}
}

// pusher is the push service: it accepts all, unless told otherwise.
type pusher struct {
	mu     sync.Mutex
	calls  []push.Call
	notes  []push.Note
	result push.Result
	delay  time.Duration
}

func (p *pusher) CanCall(ts []push.Token) bool { return hasKind(ts, "voip") }
func (p *pusher) CanNote(ts []push.Token) bool { return len(ts) > 0 }

func hasKind(ts []push.Token, kind string) bool {
	for _, t := range ts {
		if t.Kind == kind {
			return true
		}
	}
	return false
}

func (p *pusher) Call(ctx context.Context, ts []push.Token, _ string, c push.Call) push.Result {
	p.mu.Lock()
	delay, res := p.delay, p.result
	p.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return push.Result{Outcome: push.ProviderDown, Reason: "stopped"}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, c)
	if res.Outcome == "" {
		res.Outcome = push.Accepted
	}
	for _, t := range ts {
		if t.Kind == "voip" {
			res.Token, res.Provider = t, t.Provider
		}
	}
	return res
}

func (p *pusher) Post(_ []push.Token, _ string, n push.Note, done func(push.Result)) {
	p.mu.Lock()
	p.notes = append(p.notes, n)
	p.mu.Unlock()
	if done != nil {
		done(push.Result{Outcome: push.Accepted})
	}
}

// pushed checks how many VoIP pushes left, and which notes.
func (w *town) pushed(calls int, notes ...string) {
	w.t.Helper()
	synctest.Wait()
	w.pushes.mu.Lock()
	defer w.pushes.mu.Unlock()
	if len(w.pushes.calls) != calls {
		w.t.Errorf("%d VoIP pushes left, want %d", len(w.pushes.calls), calls)
	}
	var got []string
	for _, n := range w.pushes.notes {
		got = append(got, n.Event)
	}
	if strings.Join(got, " ") != strings.Join(notes, " ") {
		w.t.Errorf("Message pushes %q, want %q", got, notes)
	}
}
