package sipproxy

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/prometheus/client_golang/prometheus"

	"sallyport/core/downstream"
	"sallyport/core/im"
	"sallyport/core/liveness"
	"sallyport/core/location"
	"sallyport/core/presence"
	"sallyport/core/registrar"
	"sallyport/core/trace"
	"sallyport/core/upstream"
	"sallyport/core/wake"
	"sallyport/tunnel"
)

// A Domain is one SIP domain that clients register in.
type Domain struct {
	// Name is the host part of its AORs, in lower case.
	Name string
	// Registrar answers for a stand-alone domain (decision 9). It is nil for
	// a domain whose PBX keeps the truth.
	Registrar *registrar.Registrar
	// UpstreamExpires is asked of the PBX for each binding, so that a phone
	// that sleeps stays registered there.
	UpstreamExpires time.Duration
	// Path gives the PBX the client's own contact, and a Path that leads to the
	// client's flow (RFC 3327), instead of a contact of ours.
	Path bool
}

// Config is what the proxy is told. Zero values are not defaults.
type Config struct {
	// Core names this core, in bindings.
	Core string
	// Advertise is host:port at which PBXs reach us.
	Advertise string
	// AdvertiseTLS is the same over TLS; "" is Advertise.
	AdvertiseTLS string
	Domains      []Domain
	// Window is how long a woken device may take to register.
	Window time.Duration
	// Ringback is 180 or 183, sent once a call has waited for RingbackAfter; 0 for none.
	Ringback      int
	RingbackAfter time.Duration
	// ReconnectGrace is how long a device without token is waited for after its flow ended.
	ReconnectGrace time.Duration
	// PushEnabled is false when nothing is ever pushed (B14).
	PushEnabled bool
	// DesktopActive spares a device the push of a message while another of the
	// user's was used within this time; 0 for never.
	DesktopActive time.Duration
	// PushInForeground sends a VoIP push beside the INVITE to a device that is awake (B4).
	PushInForeground bool
	// Providers are the push providers with an app of ours: "apns", "fcm", "webpush".
	Providers []string
	// RefuseUnknown answers 555 to a REGISTER that asks for pushes which nothing
	// here can send: no other proxy on the way to the PBX would (RFC 8599 §5.6.1.1).
	RefuseUnknown bool
	// VAPID returns the public key by which our WebPush pushes are known, in
	// base64url (RFC 8292 §3.2), "" without that provider; nil returns "".
	VAPID func() string
	// RefreshMargin is how long before its binding at the PBX ends a device that
	// sleeps is asked to register; 0 is never.
	RefreshMargin time.Duration
	// TokenKeys are the HMAC keys of our tokens, newest first.
	TokenKeys [][]byte
	// FlowTimer is granted to clients that use RFC 5626.
	FlowTimer time.Duration
}

// A Waker is what the proxy needs of core/wake.
type Waker interface {
	CanCall(d wake.Device) bool
	CanNote(d wake.Device) bool
	Call(ctx context.Context, d wake.Device, c wake.Call, obs wake.Observer) (wake.Outcome, error)
	Announce(d wake.Device, c wake.Call, obs wake.Observer, done func(wake.Result)) (stop func())
	Note(d wake.Device, n wake.Note, obs wake.Observer)
	Queue(ctx context.Context, d wake.Device, n wake.Note) error
	Registered(device, flow string)
	Refused(device string)
	Gone(device string)
	Waking(device string) bool
}

// An Upstream reaches a domain's PBX, and the servers of it that are trusted.
type Upstream interface {
	Conn(ctx context.Context, domain, key string, tried ...*upstream.Conn) (*upstream.Conn, error)
	Live(domain, key string, tried ...*upstream.Conn) *upstream.Conn
	Dial(ctx context.Context, hostport string) (*upstream.Conn, error)
	LiveHop(hostport string) *upstream.Conn
	Trusted(a netip.Addr) bool
	Serves(a netip.Addr, domain string) bool
	Several(domain string) bool
	Suspect(c *upstream.Conn)
	Failed(c *upstream.Conn, at time.Time)
	Away(c *upstream.Conn, d time.Duration)
}

// Deps are the rooms the proxy works with.
type Deps struct {
	Location *location.Location
	Waker    Waker
	Traces   *trace.Recorder // nil: no traces
	Messages *im.Service     // nil: no message is held
	// Publications are what clients published of themselves; nil: none is looked after.
	Publications *presence.Book
	Log          *slog.Logger
	Registry     prometheus.Registerer
}

// Proxy is the SIP proxy. It is a downstream.Handler and an upstream.Handler.
type Proxy struct {
	// Static after New and Attach.
	cfg           Config
	advertiseHost string
	advertisePort int
	tlsHost       string
	tlsPort       int
	domains       map[string]*Domain
	loc           *location.Location
	waker         Waker
	traces        *trace.Recorder
	im            *im.Service
	log           *slog.Logger
	quiet         *slog.Logger // for sipgo, which logs whole messages
	m             *metrics
	flows         *downstream.Flows
	up            Upstream
	ctx           context.Context
	stop          context.CancelFunc

	calls  group // goroutines of legs and of requests that wait
	txs    group // listeners of transactions
	upTxs  *txTable
	ghosts ghosts
	purrs  []purrKey // static: newest first

	upMu sync.Mutex
	ups  map[*upstream.Conn]*peer // guarded by upMu

	waitMu  sync.Mutex
	waiting map[location.DeviceID]map[waiter]struct{} // guarded by waitMu

	lineup lineup
	grants grants
	notes  notes
	hands  hands
	nudges nudges
	uses   uses
	told   tally
	short  shortGrants

	outages outages
	talks   talks
	summons summons

	renewals renewals
	badKeys  said

	book      *presence.Book // nil: see Deps
	turns     turns
	publisher publisher
}

// A waiter is told when a device registers on a flow.
type waiter interface{ flowUp(pe *peer) }

// New returns a proxy. Before messages arrive, [Proxy.Attach] must have been
// called; [Proxy.Run] must run.
func New(cfg Config, d Deps) *Proxy {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &Proxy{
		cfg: cfg, loc: d.Location, waker: d.Waker, traces: d.Traces, im: d.Messages, book: d.Publications,
		log: d.Log.With("room", "sipproxy"), quiet: slog.New(slog.DiscardHandler),
		m: newMetrics(d.Registry), ctx: ctx, stop: stop, purrs: purrKeys(cfg.TokenKeys),
		domains: make(map[string]*Domain), upTxs: &txTable{},
		ups:     make(map[*upstream.Conn]*peer),
		waiting: make(map[location.DeviceID]map[waiter]struct{}),
	}
	p.advertiseHost, p.advertisePort = splitHostPort(cfg.Advertise, 5060)
	p.tlsHost, p.tlsPort = splitHostPort(cmp.Or(cfg.AdvertiseTLS, cfg.Advertise), 5061)
	for _, dom := range cfg.Domains {
		p.domains[strings.ToLower(dom.Name)] = &dom
	}
	return p
}

// Attach hands over the rooms that need the proxy as their handler.
func (p *Proxy) Attach(flows *downstream.Flows, up Upstream) { p.flows, p.up = flows, up }

// Run blocks until ctx ends, then ends every call that is being set up and
// returns when nothing of the proxy runs any more.
func (p *Proxy) Run(ctx context.Context) error {
	if p.renews() {
		p.calls.Go(func() { p.renewing(p.ctx) })
	}
	if p.book != nil {
		p.calls.Go(func() { p.publishing(p.ctx) })
	}
	<-ctx.Done()
	p.stop()
	p.calls.close()
	p.calls.wait() // each has told its caller; none waits longer than cancelPatience
	p.txs.close()
	p.upTxs.closeAll()
	if p.flows != nil {
		for _, f := range p.flows.All("sip") {
			if pe, ok := f.User().(*peer); ok {
				pe.txs.closeAll()
			}
		}
	}
	p.txs.wait()
	return nil
}

// Opened implements downstream.Handler. A flow that lived before this session
// gets its bindings back, and thereby what it may do; one that has none is told
// to come again, since nobody here knows it.
func (p *Proxy) Opened(f *downstream.Flow) {
	pe := p.flowPeer(f)
	f.SetUser(pe)
	if !f.Reopened() {
		return
	}
	back := p.loc.Reattach(f.ID())
	if len(back) == 0 {
		f.Close(tunnel.CloseReconnect, "not known here, please register again")
		return
	}
	for _, b := range back {
		p.deviceUp(location.DeviceID{AOR: b.AOR, Instance: b.Instance}, pe)
	}
}

// Changed implements downstream.Handler.
func (p *Proxy) Changed(f *downstream.Flow) {
	if pe, ok := f.User().(*peer); ok {
		p.attentive(pe)
		p.lookPublishedOn(pe)
	}
	p.log.Debug("flow changed", "flow", f.ID(), "silent", f.Attention().Silent)
}

// Closed implements downstream.Handler: the devices on the flow are suspended
// from now on, by derivation, and what was being sent to them has failed.
func (p *Proxy) Closed(f *downstream.Flow, code tunnel.CloseCode, text string) {
	pe, _ := f.User().(*peer)
	if pe != nil {
		pe.setGone() // first: whoever binds to it from now on takes that back
	}
	ids := p.loc.Unflow(f.ID(), time.Now())
	if pe != nil {
		pe.txs.lose(pe)
		p.orphans(pe, ids)
	}
	p.lookPublished(ids...)
	p.log.Debug("flow closed", "flow", f.ID(), "reason", code.String(), "text", text, "devices", len(ids))
}

// watch registers w for the registrations of a device.
func (p *Proxy) watch(id location.DeviceID, w waiter) (unwatch func()) {
	p.waitMu.Lock()
	defer p.waitMu.Unlock()
	set := p.waiting[id]
	if set == nil {
		set = make(map[waiter]struct{})
		p.waiting[id] = set
	}
	set[w] = struct{}{}
	return func() {
		p.waitMu.Lock()
		defer p.waitMu.Unlock()
		delete(set, w)
		if len(set) == 0 && len(p.waiting[id]) == 0 {
			delete(p.waiting, id)
		}
	}
}

// deviceUp frees whoever waits for the device: it can be reached on pe.
func (p *Proxy) deviceUp(id location.DeviceID, pe *peer) {
	p.waker.Registered(id.String(), pe.flow.ID())
	p.summons.came(id)
	var ws []waiter
	p.waitMu.Lock()
	for w := range p.waiting[id] {
		ws = append(ws, w)
	}
	p.waitMu.Unlock()
	for _, w := range ws {
		w.flowUp(pe)
	}
	p.mail(id)
}

// peerByID returns the hop of a live flow, or nil.
func (p *Proxy) peerByID(flow string) *peer {
	if flow == "" || p.flows == nil {
		return nil
	}
	f := p.flows.Get(flow)
	if f == nil {
		return nil
	}
	pe, _ := f.User().(*peer)
	return pe
}

// peerOf returns the hop of a device's newest flow, or nil.
func (p *Proxy) peerOf(d location.Device) *peer { return p.bestOf(d, nil) }

// bestOf is peerOf without one of the flows. A device with several, by reg-id
// (RFC 5626 §4.2), is reached on the newest that hears.
func (p *Proxy) bestOf(d location.Device, but *peer) (best *peer) {
	for _, b := range d.Bindings {
		pe := p.peerByID(b.Flow)
		if pe == nil || pe == but {
			continue
		}
		if pe.flow.Attention() == (downstream.Attention{}) {
			return pe
		}
		if best == nil {
			best = pe
		}
	}
	return best
}

// State derives how a device can be reached now.
func (p *Proxy) State(d location.Device) liveness.State { return p.stateOn(d, p.peerOf(d)) }

// stateOn is State for a device whose newest flow is pe, or that has none. Only
// a device that never had a token is waited for without a push (B30): one whose
// token is dead, or where push is off, is refused at once (B14, B19).
func (p *Proxy) stateOn(d location.Device, pe *peer) liveness.State {
	f := liveness.Facts{
		Pushable: p.pushable(d),
		Waking:   p.waker.Waking(d.ID.String()),
		FlowLost: d.FlowLost(),
	}
	if len(d.Tokens) == 0 {
		f.Grace = p.cfg.ReconnectGrace
	}
	if pe != nil {
		a := pe.flow.Attention()
		f.Flow, f.Inactive, f.KeepaliveLost, f.Unanswered = true, a.Inactive, a.Silent, a.Unanswered
	}
	return f.State(time.Now())
}

// pushable says whether a call can be announced to the device.
func (p *Proxy) pushable(d location.Device) bool {
	return p.cfg.PushEnabled && p.waker.CanCall(wakeDevice(d))
}

// wakeDevice is what core/wake needs to know of a device. A dead token is told
// too: a device that has a token per channel keeps its channels apart (B19).
func wakeDevice(d location.Device) wake.Device {
	out := wake.Device{ID: d.ID.String(), Class: d.Class}
	for _, t := range d.Tokens {
		out.Tokens = append(out.Tokens, wake.Token{
			Provider: t.Provider, Kind: t.Kind, App: t.App, Param: t.Param, Value: t.Value,
			Sandbox: t.Sandbox, Registered: t.Registered, Dead: t.Dead, Key: t.Key, Auth: t.Auth,
			Suspects: t.Suspects, Suspected: t.LastErrorAt,
		})
	}
	return out
}

// ringsByPush says whether the device's app shows a call as soon as the push
// arrives, before any SIP: CallKit does, and must be told by SIP that it ended.
func ringsByPush(d location.Device) bool {
	for _, t := range d.Tokens {
		if !t.Dead && t.Provider == "apns" {
			return true
		}
	}
	return false
}

var _ sip.Connection = (*peer)(nil)
