package sipproxy

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sallyport/core/downstream"
	"sallyport/core/im"
	"sallyport/core/location"
	"sallyport/core/presence"
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
	vapid     = "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs"
	// deviceKeep is shorter than the 30 days of the product, so that a story can outlast it.
	deviceKeep = 48 * time.Hour
)

// A town is the whole inside half around a proxy: a tunnel to an edge whose
// clients are scripts, a PBX that is a script, and a push provider that keeps
// what it was sent. It lives in a synctest bubble, so its waits take no time.
type town struct {
	t       testing.TB
	cfg     Config
	store   location.Store  // outlives the core
	papers  location.Memory // publications; outlive the core
	shows   presence.Config
	limits  im.Config
	letters *im.Memory       // outlives the core
	edge    *tunnel.Acceptor // outlives the core
	inner   inner            // where the core dials the edge
	edgeRun *running
	pushes  *pusher
	pbx     *script
	pbxOver string // transport to the PBX: "udp", else TCP
	pbxDown atomic.Bool
	outward func(*upstream.Config) // changes the way to the PBX; may be nil
	pbxSlow time.Duration          // before a connection to the PBX is made

	// The core, as it lives now.
	proxy   *Proxy
	book    *presence.Book
	loc     *location.Location
	waker   *wake.Waker
	traces  *trace.Recorder
	im      *im.Service
	flows   *downstream.Flows
	peers   *spy
	door    *pipeListener // sip.listen, TCP
	wire    *wire         // sip.listen, UDP
	running []*running    // in the order of their start
}

// inTown runs a story in a town of its own, and looks afterwards whether all
// that the story began has come to an end.
func inTown(t *testing.T, story func(t *testing.T, w *town), with ...func(*Config)) {
	t.Helper()
	users := usersFile(t)
	synctest.Test(t, func(t *testing.T) {
		w := buildTown(t, users, with...)
		w.startEdge()
		defer func() { // also when the story fails
			w.stopCore()
			w.edgeRun.stop()
		}()
		w.startCore()
		w.tunnelUp()
		story(t, w)
		w.nothingIsLeft()
	})
}

func usersFile(t testing.TB) string {
	users := filepath.Join(t.TempDir(), "users")
	for _, u := range []string{"alice", "bob"} {
		if err := registrar.AddUser(users, "demo.example", u, "secret-"+u); err != nil {
			t.Fatal(err)
		}
	}
	return users
}

func buildTown(t testing.TB, usersFile string, with ...func(*Config)) *town {
	t.Helper()
	users, err := registrar.LoadUsers(usersFile)
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, pushes: &pusher{}, store: &location.Memory{}, letters: &im.Memory{}, limits: im.Config{PerAOR: 20, PerDevice: 12}}
	w.pushes.feedback = w.told
	w.cfg = Config{
		Core: "core1", Advertise: advertise, Window: 13 * time.Second, RingbackAfter: 5 * time.Second,
		ReconnectGrace: 5 * time.Second, PushEnabled: true, PushInForeground: true,
		Providers: []string{"apns", "fcm", "webpush"}, VAPID: func() string { return vapid }, TokenKeys: [][]byte{[]byte("an old key")}, FlowTimer: 120 * time.Second,
		Domains: []Domain{
			{Name: "example.com", UpstreamExpires: 24 * time.Hour},
			{Name: "demo.example", UpstreamExpires: 24 * time.Hour,
				Registrar: registrar.New("demo.example", users, [][]byte{[]byte("a nonce key of thirty-two bytes.")})},
		},
	}
	for _, f := range with {
		f(&w.cfg)
	}
	return w
}

// startCore builds the core's rooms on what the store holds, and runs them.
func (w *town) startCore() {
	w.t.Helper()
	w.loc = location.New(location.Config{Core: "core1", DeviceKeep: deviceKeep}, w.store, nil)
	if err := w.loc.Load(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.waker = wake.New(wake.Config{Window: w.cfg.Window, Flow: w.flowOf}, w.pushes, nil, nil)
	w.traces = trace.New(nil, 100, nil)
	w.im = im.New(w.limits, w.letters, nil, nil)
	w.book = presence.New(w.shows, &w.papers, nil, nil)
	if err := w.book.Load(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.door, w.wire = newPipeListener(), newWire()
	w.proxy = New(w.cfg, Deps{Location: w.loc, Waker: w.waker, Traces: w.traces, Messages: w.im, Publications: w.book})
	w.im.Attach(w.proxy.Courier())
	w.peers = &spy{Proxy: w.proxy}
	w.flows = downstream.New(map[string]downstream.Handler{"sip": w.peers}, 2, nil)
	out := upstream.Config{
		Upstreams: map[string][]string{"example.com": {"sip:10.0.0.9:5060;transport=" + cmp.Or(w.pbxOver, "tcp")}},
		DialTCP:   w.dialPBX, KeepAlive: time.Hour,
		Listen:    []string{"tcp:" + advertise, "udp:" + advertise},
		ListenTCP: func(context.Context, string) (net.Listener, error) { return w.door, nil },
		ListenUDP: func(context.Context, string) (net.PacketConn, error) { return w.wire, nil },
	}
	if w.outward != nil {
		w.outward(&out)
	}
	up := upstream.New(out, w.proxy.Upstream(), nil, nil)
	w.proxy.Attach(w.flows, up)
	dialer := tunnel.NewDialer(tunnel.DialerConfig{Name: "core1", Boot: 9, Edges: []string{"edge1:1"},
		PingEvery: time.Hour, DeadAfter: 3 * time.Hour, Links: 1,
		Dial: w.inner.dial,
		Open: w.flows.Open})
	for _, run := range []func(context.Context) error{
		w.loc.Run, w.im.Run, w.book.Run, w.flows.Run, up.Run, dialer.Run, w.waker.Run, w.proxy.Run,
	} {
		w.running = append(w.running, start(context.Background(), w.t, run))
	}
}

// stopCore ends the rooms as core does: the proxy first, while the PBX and the
// clients can still hear it.
func (w *town) stopCore() {
	for len(w.running) > 0 {
		last := w.running[len(w.running)-1]
		last.stop()
		w.running = w.running[:len(w.running)-1]
	}
}

// running is a room that runs.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func start(ctx context.Context, t testing.TB, run func(context.Context) error) *running {
	ctx, cancel := context.WithCancel(ctx)
	r := &running{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		if err := run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("a room ended: %v", err)
		}
	}()
	return r
}

func (r *running) stop() { r.cancel(); <-r.done }

// spy remembers every hop to a client, to look at it when it is gone.
type spy struct {
	*Proxy
	mu  sync.Mutex
	all []*peer
}

func (s *spy) Opened(f *downstream.Flow) {
	s.Proxy.Opened(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	if pe, ok := f.User().(*peer); ok {
		s.all = append(s.all, pe)
	}
}

// nothingIsLeft lets every timer of SIP run out, and looks for transactions
// and waits that never ended.
func (w *town) nothingIsLeft() {
	w.t.Helper()
	time.Sleep(4 * time.Minute)
	synctest.Wait()
	p := w.proxy
	tables := map[string]*txTable{"the PBX": p.upTxs}
	for _, pe := range w.peers.all {
		tables[pe.name()] = pe.txs
	}
	for name, t := range tables {
		t.mu.Lock()
		for key := range t.server {
			w.t.Errorf("a request of %s never ended: %s", name, key)
		}
		for key := range t.client {
			w.t.Errorf("a request to %s never ended: %s", name, key)
		}
		t.mu.Unlock()
	}
	if len(p.hands.out) > 0 {
		w.t.Errorf("%d messages are out still", len(p.hands.out))
	}
	if len(p.grants.under) > 0 || len(p.grants.last) > 0 {
		w.t.Errorf("%d AORs with registrations under way, %d devices with unanswered ones", len(p.grants.under), len(p.grants.last))
	}
	if len(p.turns.of) > 0 {
		w.t.Errorf("%d devices have a PUBLISH under way", len(p.turns.of))
	}
	if len(p.waiting) > 0 || len(p.lineup.last) > 0 || len(p.ghosts.of) > 0 {
		w.t.Errorf("somebody still waits: %d devices, %d in line, %d ghosts", len(p.waiting), len(p.lineup.last), len(p.ghosts.of))
	}
}

func (w *town) flowOf(device string) string {
	id, _ := location.ParseDeviceID(device)
	d, _ := w.loc.Device(id)
	return d.Flow()
}

func (w *town) told(device string, r push.Result) {
	id, _ := location.ParseDeviceID(device)
	w.loc.Told(id, location.Answer{
		Token: location.TokenID{Provider: r.Token.Provider, Kind: r.Token.Kind, Value: r.Token.Value},
		At:    time.Now(), Reason: r.Reason, Accepted: r.Outcome == push.Accepted, Dead: r.Outcome == push.DeadToken, Since: r.DeadSince,
	})
}

// client opens a flow at the edge, from an address.
func (w *town) client(name, transport, from string) *script {
	w.t.Helper()
	s := newScript(w.t, name, nil)
	var id [16]byte
	copy(id[:], fmt.Sprintf("%s-%d", name, time.Now().UnixNano()%1e9))
	f, err := w.edge.Open(tunnel.Info{UUID: id, Service: "sip", Transport: transport,
		Remote: netip.MustParseAddrPort(from), Public: public, Since: time.Now()}, clientEnd{s})
	if err != nil {
		w.t.Fatalf("%s cannot connect: %v", name, err)
	}
	s.flow, s.send = f, func(m string) error { return f.Send([]byte(m)) }
	synctest.Wait()
	return s
}

type clientEnd struct{ s *script }

func (c clientEnd) Message(f *tunnel.Flow, p []byte) {
	c.s.hear(strings.Clone(string(p)))
	f.Consumed(len(p))
}
func (c clientEnd) Event(*tunnel.Flow, tunnel.Event) {}
func (c clientEnd) Closed(_ *tunnel.Flow, code tunnel.CloseCode, _ string) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.ended = code.String()
}

// restart ends the core and starts another on the same store, with another
// config if that is told.
func (w *town) restart(with ...func(*Config)) {
	w.t.Helper()
	w.stopCore()
	for _, f := range with {
		f(&w.cfg)
	}
	w.startCore()
	pass(5 * time.Second)
	w.tunnelUp()
}

// tunnelUp waits until the edge has a core that takes flows: links of a pair
// may cross at first.
func (w *town) tunnelUp() {
	for synctest.Wait(); !w.edge.Ready(); {
		pass(100 * time.Millisecond)
	}
}
