package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a network of pipes: what listens is dialled by at, what is dialled
// arrives at pbx.
type world struct {
	t    *testing.T
	up   *Upstream
	seen *recorder
	stop func() // ends Run and waits for it

	mu      sync.Mutex
	dialled []string
	refuse  map[string]error // by address; "*" for all
	pbx     []net.Conn       // the far ends of what the core dialled
	ends    map[string]net.Conn
	names   map[string]string // name to comma-separated addresses
	srv     map[string][]*net.SRV
	door    *door
	play    func(address string, c net.Conn) // serves the far end instead of a test
	gate    chan struct{}                    // where dials wait, when it is not nil
}

// recorder is a Handler that keeps what it was told.
type recorder struct {
	mu     sync.Mutex
	msgs   []string
	conns  []*Conn
	closed []*Conn
	reach  []string // "example.com up", "example.com down"
	answer func(c *Conn, p []byte)
}

func (r *recorder) Reachable(domain string, up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reach = append(r.reach, domain+map[bool]string{true: " up", false: " down"}[up])
}

func (r *recorder) reached() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.reach, ", ")
}

func (r *recorder) Message(c *Conn, p []byte) {
	r.mu.Lock()
	r.msgs = append(r.msgs, string(p))
	r.conns = append(r.conns, c)
	answer := r.answer
	r.mu.Unlock()
	if answer != nil {
		answer(c, p)
	}
}

func (r *recorder) Closed(c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = append(r.closed, c)
}

func (r *recorder) messages() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.msgs...)
}

func (r *recorder) ended() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.closed)
}

// inWorld runs test in a bubble with an Upstream that runs until test returns.
func inWorld(t *testing.T, cfg Config, test func(t *testing.T, w *world), before ...func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, seen: &recorder{}, refuse: map[string]error{}, ends: map[string]net.Conn{}, names: map[string]string{},
			srv: map[string][]*net.SRV{}, door: newDoor()}
		w.names["pbx.example.com"] = "10.0.0.9"
		for _, f := range before {
			f(w)
		}
		cfg.DialTCP, cfg.Resolver = w.dial, w
		cfg.ListenTCP = func(context.Context, string) (net.Listener, error) { return w.door, nil }
		w.up = New(cfg, w.seen, nil, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.up.Run(ctx) }()
		<-w.up.Ready()
		w.stop = sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
		test(t, w)
		w.stop()
		for _, c := range w.pbx {
			c.Close()
		}
	})
}

func (w *world) dial(_ context.Context, address string) (net.Conn, error) {
	w.mu.Lock()
	gate := w.gate
	w.mu.Unlock()
	if gate != nil {
		<-gate
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialled = append(w.dialled, address)
	for _, key := range []string{"*", address} {
		if err := w.refuse[key]; err != nil {
			return nil, err
		}
	}
	near, far := net.Pipe()
	w.pbx = append(w.pbx, far)
	w.ends[address] = far
	if w.play != nil {
		go w.play(address, far)
	}
	return near, nil
}

func (w *world) dials() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.dialled...)
}

func (w *world) setRefuse(address string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse[address] = err
}

func (w *world) setName(name, addrs string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[name] = addrs
}

// LookupNetIP and LookupSRV make world a Resolver.
func (w *world) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.names[host] == "" {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var out []netip.Addr
	for s := range strings.SplitSeq(w.names[host], ",") {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

func (w *world) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	records := w.srv["_"+service+"._"+proto+"."+name]
	if records == nil {
		return "", nil, errors.New("no SRV")
	}
	return name, records, nil
}

// call connects to the listener from an address.
func (w *world) call(from string) *peer {
	near, far := net.Pipe()
	w.door.conns <- addressed{near, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))}
	return &peer{w.t, far}
}

// far is the next connection the core has dialled, seen from the PBX.
func (w *world) far() *peer {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pbx) == 0 {
		w.t.Fatal("nothing was dialled")
	}
	c := w.pbx[0]
	w.pbx = w.pbx[1:]
	return &peer{w.t, c}
}

// peer is the other end of a connection.
type peer struct {
	t *testing.T
	net.Conn
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.Conn, s); err != nil {
		p.t.Errorf("send: %v", err)
	}
}

func (p *peer) want(s string) {
	p.t.Helper()
	buf := make([]byte, len(s))
	if _, err := io.ReadFull(p.Conn, buf); err != nil || string(buf) != s {
		p.t.Errorf("read %q, %v; want %q", buf, err, s)
	}
}

func (p *peer) wantEnd() {
	p.t.Helper()
	if n, err := p.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		p.t.Errorf("read %d bytes, %v; want the end", n, err)
	}
}

// addressed gives a pipe a remote address.
type addressed struct {
	net.Conn
	remote net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.remote }

// door is a listener of pipes.
type door struct {
	conns chan net.Conn
	once  sync.Once
	shut  chan struct{}
}

func newDoor() *door { return &door{conns: make(chan net.Conn), shut: make(chan struct{})} }

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.conns:
		return c, nil
	case <-d.shut:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error { d.once.Do(func() { close(d.shut) }); return nil }

func (d *door) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 5060} }

func message(n int, body string) string {
	return fmt.Sprintf("MESSAGE sip:a@h SIP/2.0\r\nCSeq: %d MESSAGE\r\nContent-Length: %d\r\n\r\n%s", n, len(body), body)
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// end is the far end of the newest connection to a server.
func (w *world) end(address string) net.Conn {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.ends[address]
	if c == nil {
		w.t.Fatalf("%s was not dialled", address)
	}
	return c
}

func (w *world) hangUp(address string) { w.t.Helper(); w.end(address).Close() }

// changes is closed when a server of the domain changes.
func (d *domain) changes() chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}
