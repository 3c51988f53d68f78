package edge_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sallyport/certs"
	"sallyport/certs/acmetest"
	"sallyport/certs/ca"
	"sallyport/edge"
	"sallyport/tunnel"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(acmetest.Leftover))
}

// world is a network in memory: addresses, and who listens there.
type world struct {
	mu     sync.Mutex
	places map[string]*place
}

type place struct {
	addr   string
	calls  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (w *world) listen(_, addr string) (net.Listener, error) {
	p := &place{addr: addr, calls: make(chan net.Conn), closed: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.places[addr] != nil {
		return nil, fmt.Errorf("listen tcp %s: address already in use", addr)
	}
	w.places[addr] = p
	return p, nil
}

func (p *place) Accept() (net.Conn, error) {
	select {
	case c := <-p.calls:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *place) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *place) Addr() net.Addr { return named(p.addr) }

// named is an address; of a connection, the other end's.
type named string

func (named) Network() string  { return "tcp" }
func (n named) String() string { return string(n) }

type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr { return named(f.addr) }

// dial calls addr from another.
func (w *world) dial(ctx context.Context, source, addr string) (net.Conn, error) {
	w.mu.Lock()
	p := w.places[addr]
	w.mu.Unlock()
	if p == nil {
		return nil, fmt.Errorf("nobody listens on %s", addr)
	}
	near, far := net.Pipe()
	select {
	case p.calls <- from{far, source}:
		return near, nil
	case <-p.closed:
		return nil, fmt.Errorf("nobody listens on %s any more", addr)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// town is an edge in a world, and a core that answers every message: in SIP
// with a 200, in XMPP with what it said.
type town struct {
	*world
	t        *testing.T
	cfg      edge.Config
	server   *edge.Server
	registry *prometheus.Registry
	logs     *bytes.Buffer
	dir      string
	services []string       // that the core takes; nil: any
	core     *tunnel.Dialer // set when it runs
	flows    chan *tunnel.Flow
	heard    chan string
	under    []byte // a message that comes in pieces
	done     chan error
	stop     context.CancelFunc
}

// prepare writes certificates and a config, and makes no edge yet.
func prepare(t testing.TB) (cfg edge.Config, dir string) {
	t.Helper()
	dir = t.TempDir()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	must(ca.Init(dir))
	_, err := ca.Issue(dir, certs.RoleEdge, "edge1.example.com", 90)
	must(err)
	for _, core := range []string{"core1", "core2"} {
		_, err = ca.Issue(dir, certs.RoleCore, core, 90)
		must(err)
	}
	writePublic(t, dir, 1)
	cfg = edge.DefaultConfig()
	cfg.Public.Hostname = "edge.example.com"
	cfg.TLS.ACME, cfg.TLS.Cert, cfg.TLS.Key = false, filepath.Join(dir, "public.pem"), filepath.Join(dir, "public.key")
	cfg.Tunnel.Listen, cfg.Tunnel.Identity = "10.1.0.4:7443", filepath.Join(dir, "edge1.example.com.pem")
	return cfg, dir
}

// writePublic makes a public certificate with a serial number.
func writePublic(t testing.TB, dir string, serial int64) {
	t.Helper()
	writePublicUntil(t, dir, serial, time.Now().Add(100*24*time.Hour))
}

func writePublicUntil(t testing.TB, dir string, serial int64, end time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: end.Add(-110 * 24 * time.Hour), NotAfter: end, DNSNames: []string{"edge.example.com"}}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"public.pem": {Type: "CERTIFICATE", Bytes: cert}, "public.key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// found runs a whole edge, and a core unless told otherwise.
func found(t *testing.T, core bool, change func(*edge.Config)) *town {
	t.Helper()
	return foundFor(t, nil, core, change)
}

// foundFor is found with a core for some services.
func foundFor(t *testing.T, services []string, core bool, change func(*edge.Config)) *town {
	t.Helper()
	cfg, dir := prepare(t)
	if change != nil {
		change(&cfg)
	}
	w := &town{
		world: &world{places: make(map[string]*place)}, t: t, cfg: cfg, dir: dir, registry: prometheus.NewRegistry(), logs: new(bytes.Buffer),
		services: services, flows: make(chan *tunnel.Flow, 1000), heard: make(chan string, 1000), done: make(chan error, 1),
	}
	var err error
	w.server, err = edge.New(cfg, edge.Deps{
		Log:      slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registry: w.registry, Version: "test", Listen: w.listen,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	go func() { w.done <- w.server.Run(ctx) }()
	synctest.Wait() // until it listens: the core would wait before it calls again
	coreDone := make(chan struct{})
	coreCtx, hangUp := context.WithCancel(context.Background())
	go func() {
		defer close(coreDone)
		if core {
			_ = runCore(t, coreCtx, dir, w, func(ctx context.Context) (net.Conn, error) {
				return w.dial(ctx, "10.2.0.5:50000", "10.1.0.4:7443")
			})
		}
	}()
	synctest.Wait()
	t.Cleanup(func() {
		cancel()
		if err := <-w.done; err != nil {
			t.Errorf("the edge ended with %v", err)
		}
		hangUp()
		<-coreDone
		if t.Failed() {
			t.Logf("the edge logged:\n%s", w.logs)
		}
	})
	return w
}

// runCore is a core with the bundle in dir.
func runCore(t testing.TB, ctx context.Context, dir string, h *town, dial func(context.Context) (net.Conn, error)) error {
	return runCoreAs(t, ctx, dir, "core1", h, dial)
}

// runCoreAs is runCore under another name.
func runCoreAs(t testing.TB, ctx context.Context, dir, name string, h *town, dial func(context.Context) (net.Conn, error)) error {
	bundle, err := certs.LoadBundle(filepath.Join(dir, name+".pem"))
	if err != nil {
		t.Error(err)
		return err
	}
	h.core = tunnel.NewDialer(tunnel.DialerConfig{
		Name: bundle.Name(), Edges: []string{"edge1.example.com:7443"}, Services: h.services,
		Open: func(f *tunnel.Flow) tunnel.Handler { h.flows <- f; return h },
		Dial: func(ctx context.Context, _ string) (net.Conn, string, error) {
			c, err := dial(ctx)
			if err != nil {
				return nil, "", err
			}
			secure := tls.Client(c, bundle.ClientConfig(certs.RoleEdge, "edge1.example.com"))
			if err := secure.HandshakeContext(ctx); err != nil {
				_ = c.Close()
				return nil, "", err
			}
			_, name, err := certs.PeerName(secure.ConnectionState())
			return secure, name, err
		},
	})
	return h.core.Run(ctx)
}

func (w *town) Message(f *tunnel.Flow, p []byte) {
	f.Consumed(len(p))
	w.heard <- string(p[:min(len(p), 60)]) // all of an OPTIONS
	if f.Info().Service == "xmpp" {
		w.echo(f, p)
		return
	}
	_ = f.Send([]byte("SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"))
}
func (w *town) Event(_ *tunnel.Flow, e tunnel.Event) { w.heard <- e.String() }
func (w *town) Closed(_ *tunnel.Flow, c tunnel.CloseCode, _ string) {
	w.heard <- "closed " + c.String()
}

func (w *town) expect(want ...string) {
	w.t.Helper()
	for _, s := range want {
		if got := <-w.heard; got != s {
			w.t.Fatalf("the core heard %.60q, want %.60q", got, s)
		}
	}
}

const ok = "SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"

func options(n int) string {
	return fmt.Sprintf("OPTIONS sip:%d@example.com SIP/2.0\r\nContent-Length: 0\r\n\r\n", n)
}

// phone is a client over TLS. It reads all the time, as a socket's buffer
// would: pipes have none.
type phone struct {
	t    *testing.T
	conn *tls.Conn
	r    *bufio.Reader
	over chan struct{}
}

// call connects a phone to a listener and shakes hands.
func (w *town) call(addr string, cfg *tls.Config) (*phone, error) {
	raw, err := w.dial(w.t.Context(), "192.0.2.7:4711", addr)
	if err != nil {
		return nil, err
	}
	cfg.InsecureSkipVerify = true
	if cfg.ServerName == "" {
		cfg.ServerName = "edge.example.com"
	}
	p := &phone{t: w.t, conn: tls.Client(raw, cfg), over: make(chan struct{})}
	if err := p.conn.Handshake(); err != nil {
		_ = raw.Close()
		return nil, err
	}
	out, in := io.Pipe()
	p.r = bufio.NewReader(out)
	buffered := make(chan []byte, 1000)
	go func() {
		defer close(buffered)
		defer close(p.over)
		for {
			buf := make([]byte, 32<<10)
			n, err := p.conn.Read(buf)
			buffered <- buf[:n]
			if err != nil {
				return
			}
		}
	}()
	go func() {
		for b := range buffered {
			_, _ = in.Write(b)
		}
		_ = in.Close()
	}()
	w.t.Cleanup(func() { _ = raw.Close(); _ = out.Close() })
	return p, nil
}

func (w *town) mustCall(addr string, cfg *tls.Config) *phone {
	w.t.Helper()
	p, err := w.call(addr, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (p *phone) say(what string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, what); err != nil {
		p.t.Fatal(err)
	}
}

func (p *phone) hear(want string) {
	p.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(p.r, got); err != nil || string(got) != want {
		p.t.Fatalf("the phone heard %.60q, %v, want %.60q", got, err, want)
	}
}

// page opens a WebSocket as a library for browsers would.
func (w *town) page(options *websocket.DialOptions) (*websocket.Conn, *http.Response, error) {
	options.HTTPClient = webClient(func(context.Context) (net.Conn, error) {
		p, err := w.call(":443", &tls.Config{NextProtos: []string{"http/1.1"}})
		if err != nil {
			return nil, err
		}
		return reading{p.conn, p.r}, nil
	})
	return websocket.Dial(w.t.Context(), "wss://edge.example.com/ws", options)
}

// webClient is an HTTP client that has one way to connect.
func webClient(dial func(context.Context) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialTLSContext:    func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableKeepAlives: true,
	}}
}

// reading is a connection that is read through a buffer.
type reading struct {
	net.Conn
	r io.Reader
}

func (r reading) Read(p []byte) (int, error) { return r.r.Read(p) }
