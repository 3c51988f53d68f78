package c2s

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"sallyport/core/stanza"
)

// Open opens a stream: connected, encrypted as the upstream says, and read up
// to the features, with which a login can begin. client is told to servers that
// are reached by a WebSocket; it may be zero. It blocks, at most for
// [Config.OpenTimeout]. An error is an *[Error]. Of several servers the first
// that does is taken; one that failed is tried last for a while.
func (d *Domain) Open(ctx context.Context, client netip.Addr) (*Stream, error) {
	caller := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, d.cfg.OpenTimeout, errLate)
	defer cancel()
	select {
	case d.opening <- struct{}{}:
		defer func() { <-d.opening }()
	case <-ctx.Done():
		return nil, d.fault("", PhaseConnect, ErrBusy, "")
	}
	begun := time.Now()
	s, fault := d.openOne(ctx, client)
	if !errors.Is(caller.Err(), context.Canceled) { // else it says nothing of the server
		d.note(s, fault, time.Since(begun))
	}
	if fault != nil {
		d.cfg.Metrics.opens.WithLabelValues(d.cfg.Name, "failed").Inc()
		return nil, fault
	}
	d.cfg.Metrics.opens.WithLabelValues(d.cfg.Name, "ok").Inc()
	d.joined()
	return s, nil
}

// errLate: the server took too long, all in all.
var errLate = errors.New("too slow")

// openOne tries the domain's servers, one after the other.
func (d *Domain) openOne(ctx context.Context, client netip.Addr) (*Stream, *Error) {
	places, err := d.places(ctx)
	if err != nil {
		return nil, d.fault("", PhaseResolve, err, "correct the upstream's name, or write its address")
	}
	var first *Error
	for _, at := range places {
		s, err := d.openAt(ctx, at, client)
		if err == nil {
			d.fare(at, true)
			return s, nil
		}
		// Who refuses says more than who is not there.
		if first == nil || first.Phase == PhaseConnect && err.Phase != PhaseConnect {
			first = err
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			break // the caller's doing
		}
		d.fare(at, false)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// fault makes an *Error.
func (d *Domain) fault(server string, phase Phase, err error, remedy string) *Error {
	e := &Error{Domain: d.cfg.Name, Upstream: d.target.URI, Server: server, Phase: phase, Err: err, Remedy: remedy}
	if se, ok := errors.AsType[*StreamError](err); ok {
		e.Stream = se.Condition
		if r, ok := streamRemedies[se.Condition]; ok {
			e.Remedy = r
		}
	}
	return e
}

// streamRemedies say what to do about a server's stream error.
var streamRemedies = map[string]string{
	"host-unknown":     "the server has no such host: is xmpp.domain's name the one of its users?",
	"host-gone":        "the server has this host no more",
	"see-other-host":   "name the other host as upstream: redirections are not followed",
	"not-authorized":   "the server wants encryption first: use xmpp:// or xmpps://, or let it take plain streams from here",
	"policy-violation": "the server has limits for one address: lift them for the core's",
}

// openAt opens a stream to one server.
func (d *Domain) openAt(ctx context.Context, at netip.AddrPort, client netip.Addr) (*Stream, *Error) {
	s := &Stream{d: d, remote: at, web: d.target.web(), cut: d.cutter()}
	o := &opening{d: d, s: s, client: client}
	err := o.run(ctx, at)
	if err == nil {
		s.wire.eager = s.wire.raw != nil
		return s, nil
	}
	if s.wire != nil {
		s.wire.end(err)
	}
	if ctx.Err() != nil && !errors.Is(err, ErrChannelBinding) {
		err = context.Cause(ctx)
	}
	return nil, d.fault(at.String(), o.phase, err, o.remedy)
}

// run goes the whole way.
func (o *opening) run(ctx context.Context, at netip.AddrPort) error {
	if err := o.connect(ctx, at); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = o.s.wire.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for _, step := range ways[o.d.target.Scheme] {
		if err := step(o, ctx); err != nil {
			return err
		}
	}
	if !stop() {
		return context.Cause(ctx)
	}
	return nil
}

// opening is a stream on its way.
type opening struct {
	d      *Domain
	s      *Stream
	client netip.Addr
	phase  Phase
	remedy string // for the error of the phase
}

// ways are the steps of each scheme.
var ways = map[Scheme][]func(*opening, context.Context) error{
	STARTTLS:  {(*opening).startTLS, (*opening).handshake, (*opening).features},
	DirectTLS: {(*opening).handshake, (*opening).features},
	Plain:     {(*opening).features},
	WS:        {(*opening).websocket, (*opening).features},
	WSS:       {(*opening).handshake, (*opening).websocket, (*opening).features},
}

func (o *opening) connect(ctx context.Context, at netip.AddrPort) error {
	o.phase, o.remedy = PhaseConnect, "does the server listen there, and does a firewall pass it?"
	ctx, cancel := context.WithTimeoutCause(ctx, o.d.cfg.DialTimeout, errLate)
	defer cancel()
	nc, err := o.d.cfg.Dial(ctx, at.String())
	if err != nil {
		return err
	}
	o.s.wire = newWire(nc, o.d.cfg.Queue, o.d.cfg.WriteTimeout)
	o.s.conn = o.s.wire
	if o.s.wire.raw != nil {
		setUserTimeout(o.s.wire.raw, userTimeout)
	}
	return nil
}

// startTLS asks for TLS (RFC 6120 §5.4). The answer is read byte by byte, so
// that nothing that was injected behind it is ever taken for the server's.
func (o *opening) startTLS(context.Context) error {
	o.phase, o.remedy = PhaseStream, "is that a client's port (c2s) of an XMPP server?"
	features, err := o.s.readFeatures()
	if err != nil {
		return err
	}
	if offered := readOffer(features); !offered.starttls {
		o.phase, o.remedy = PhaseSTARTTLS, "give the server a certificate for the domain; or, where nobody else is on the wire, use xmpp+plain://"
		return errors.New("the server does not offer STARTTLS")
	}
	o.phase, o.remedy = PhaseSTARTTLS, "look into the server's log"
	if err := o.s.Write([]byte("<starttls xmlns='" + nsTLS + "'/>")); err != nil {
		return err
	}
	for {
		kind, e, err := o.s.cut.Next()
		switch {
		case err != nil:
			return err
		case kind == stanza.End:
			return io.EOF
		case kind == stanza.Whole && e.Is(nsTLS, "proceed"):
			o.s.cut = o.d.cutter()
			return nil
		case kind == stanza.Whole:
			return unexpected(e)
		}
		var one [1]byte
		if _, err := io.ReadFull(o.s.conn, one[:]); err != nil {
			return err
		}
		o.s.cut.Feed(one[:])
	}
}

func (o *opening) handshake(ctx context.Context) error {
	o.phase, o.remedy = PhaseTLS, ""
	c := tls.Client(o.s.wire, o.d.tlsConfig(o.d.target))
	if err := c.HandshakeContext(ctx); err != nil {
		o.remedy = o.d.tlsRemedy(o.d.target, err)
		return err
	}
	o.s.conn = c
	return nil
}

func (o *opening) websocket(context.Context) error {
	o.phase = PhaseWebSocket
	early, remedy, err := upgrade(o.s.conn, o.d.target, o.client)
	if err != nil {
		o.remedy = remedy
		return err
	}
	o.s.frames = &frames{most: o.d.cfg.MaxElement}
	o.s.frames.feed(early)
	return nil
}

// features begins the stream in which clients log in.
func (o *opening) features(context.Context) error {
	o.phase, o.remedy = PhaseStream, "is that a client's port (c2s) of an XMPP server?"
	features, err := o.s.readFeatures()
	if err != nil {
		return err
	}
	o.phase = PhaseLogin
	offered := readOffer(features)
	if o.remedy, err = offered.check(o.d.cfg.SharedCert); err != nil {
		return err
	}
	o.s.features = features.AppendPortable(nil)
	o.s.mechanisms = offered.mechanisms
	return nil
}

// userTimeout is for how long sent bytes may stay unacknowledged, or a server
// that holds its clients back (ejabberd's shaper) may keep its window closed.
const userTimeout = 2 * time.Minute

// dial is how servers are connected to, unless the config says otherwise.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3,
	}}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot be reached: %w", err)
	}
	return nc, nil
}
