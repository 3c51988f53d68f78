// Package notify tells devices of what waits for them in XMPP: which stanza
// becomes a push, how a client registers for pushes in band (XEP-0357), and
// when a push is spared because the user reads elsewhere.
//
// It knows neither how sessions are held and resumed, nor how a push travels
// (core/wake).
package notify

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/core/inorder"
	"sallyport/core/location"
	"sallyport/core/wake"
	"sallyport/core/xmppproxy/session"
)

// Client is one session as its owner sees it; two are the same if they are
// equal. The methods must not wait for what calls the Notifier.
type Client interface {
	JID() string  // full
	Bare() string // of the account
	// Others is when another client of the account was last active: now if it is,
	// zero if none ever was.
	Others() time.Time
	// Answer gives the client the answer to what was consumed. It is not called
	// from within the Notifier's methods.
	Answer(p []byte)
	// Recheck has [Notifier.Pushable] asked anew soon. It does not wait.
	Recheck()
}

// Waker pushes; *wake.Waker is one. None of its methods blocks.
type Waker interface {
	CanNote(d wake.Device) bool
	Note(d wake.Device, n wake.Note, obs wake.Observer)
	Announce(d wake.Device, c wake.Call, obs wake.Observer, done func(wake.Result)) (stop func())
	Registered(device, flow string)
}

// Apps are the apps that can be pushed to; *push.Service is one.
type Apps interface {
	// Fit is the app of a token, or why there is none.
	Fit(t wake.Token) (app, reason string, ok bool)
	// Sole is the one app that there is at a provider, "" if there are none or
	// several.
	Sole(provider string) string
	// Returned says that a device is in the foreground: what waits to tell it of
	// messages is dropped.
	Returned(device string)
}

// Config says what an operator decides.
type Config struct {
	// DesktopActive is for how long after another client of the account was active
	// a message is not pushed (im.desktop_active); 0 pushes each at once.
	DesktopActive time.Duration
	// PushJID is at which JID clients of a domain register for pushes; nil is
	// push.DOMAIN.
	PushJID func(domain string) string
}

// Deps are the rooms that the Notifier works with.
type Deps struct {
	Location *location.Location
	Waker    Waker
	Apps     Apps
	Log      *slog.Logger          // nil discards
	Registry prometheus.Registerer // nil counts for nobody
}

// Notifier decides for all clients. Its methods do not block, may be called
// concurrently for different clients, and for one come one after the other.
type Notifier struct {
	// Static after New.
	cfg     Config
	loc     *location.Location
	waker   Waker
	apps    Apps
	log     *slog.Logger
	metrics *metrics
	sooner  chan struct{} // holds a token when the first of later changed
	kept    chan keeping

	mu sync.Mutex
	// Guarded by mu.
	clients map[Client]*state
	later   inorder.Heap[*deferred]
	warned  map[string]struct{}
}

// state is what is known of one client. Guarded by Notifier.mu.
type state struct {
	who    Client
	jid    string
	id     location.DeviceID // of jid
	badge  int               // messages told of since it went away
	told   keys
	calls  map[string]*call  // by id and conversation
	nicks  map[string]string // by room
	offers []offer           // registered ad hoc, and not yet enabled
	later  map[string]*deferred
}

// New makes a Notifier. It starts nothing.
func New(cfg Config, d Deps) *Notifier {
	if cfg.PushJID == nil {
		cfg.PushJID = func(domain string) string { return "push." + domain }
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Notifier{
		cfg: cfg, loc: d.Location, waker: d.Waker, apps: d.Apps, log: d.Log.With("room", "xmpp"),
		metrics: newMetrics(d.Registry), sooner: make(chan struct{}, 1), kept: make(chan keeping, maxKept),
		clients: make(map[Client]*state), warned: make(map[string]struct{}),
	}
}

// Run writes down what clients register, and sends the pushes that waited for
// another client of their user to fall idle, until ctx ends. Those that wait then
// are not sent.
func (n *Notifier) Run(ctx context.Context) error {
	var writing sync.WaitGroup
	defer writing.Wait()
	for range keepers {
		writing.Go(func() { n.keeper(ctx) })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(n.sendDue(time.Now()))
		select {
		case <-ctx.Done():
			return nil
		case <-n.sooner:
		case <-timer.C:
		}
	}
}

// Device names the device of a client.
func Device(c Client) location.DeviceID {
	_, resource, _ := strings.Cut(c.JID(), "/")
	return location.DeviceID{AOR: location.SchemeXMPP + c.Bare(), Instance: resource}
}

// of finds or makes the state of a client. Under n.mu.
func (n *Notifier) of(c Client) *state {
	s := n.clients[c]
	if s == nil {
		s = &state{who: c}
		n.clients[c] = s
	}
	if jid := c.JID(); s.jid != jid { // it may log in by another resource
		s.jid, s.id = jid, Device(c)
	}
	return s
}

// device is what can be pushed to of a client now.
func (n *Notifier) device(id location.DeviceID) (wake.Device, bool) {
	d, known := n.loc.Device(id)
	if !known {
		return wake.Device{}, false
	}
	out := wake.Device{ID: d.ID.String(), Class: d.Class}
	for i := range d.Tokens {
		out.Tokens = append(out.Tokens, wakeToken(&d.Tokens[i]))
	}
	return out, true
}

func wakeToken(t *location.Token) wake.Token {
	return wake.Token{
		Provider: t.Provider, Kind: t.Kind, App: t.App, Param: t.Param, Value: t.Value,
		Sandbox: t.Sandbox, Registered: t.Registered, Dead: t.Dead, Key: t.Key, Auth: t.Auth,
		Suspects: t.Suspects, Suspected: t.LastErrorAt,
	}
}

// Pushable reports whether a client that is away can be told of a message.
func (n *Notifier) Pushable(c Client) bool {
	d, known := n.device(Device(c))
	return known && n.waker.CanNote(d)
}

// Active says that the client listens.
func (n *Notifier) Active(c Client) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.of(c)
	s.badge = 0
	s.told.returned(time.Now())
	for _, one := range s.calls {
		one.stop()
	}
	s.calls = nil
	n.forgetLater(s)
	if _, known := n.loc.Device(s.id); known {
		n.loc.Renew(s.id)
		n.waker.Registered(s.id.String(), "")
		n.apps.Returned(s.id.String())
	}
}

// Away says that the client does not listen any more. It is told of nothing
// before a stanza waits.
func (n *Notifier) Away(Client) {}

// Ended says that the session is gone. Its device keeps its tokens.
func (n *Notifier) Ended(c Client) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.clients[c]; s != nil {
		n.forgetLater(s)
		delete(n.clients, c)
	}
}

// Alert tells a client, without a word of anything, that it should come.
func (n *Notifier) Alert(c Client, a session.Alert) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.of(c)
	d, known := n.device(s.id)
	if !known || !n.waker.CanNote(d) {
		return
	}
	now := time.Now()
	note := wake.Note{To: s.id.AOR, Sent: now, ID: "alert " + now.UTC().Format(time.RFC3339Nano), Event: wake.EventMessage}
	if a == session.Relogin {
		note.Event = wake.EventRegister
	}
	n.metrics.notes.WithLabelValues("alert").Inc()
	n.waker.Note(d, note, nil)
}

func (n *Notifier) hurry() {
	select {
	case n.sooner <- struct{}{}:
	default:
	}
}
