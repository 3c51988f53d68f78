package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"sallyport/certs"
	"sallyport/edge/admission"
	"sallyport/edge/flow"
	"sallyport/edge/transport"
	"sallyport/tunnel"
)

// door is one public listener.
type door struct {
	name     string
	listener net.Listener
	public   string        // host:port that clients see
	timer    time.Duration // the Flow-Timer that clients are granted
	tls      *tls.Config   // nil on http
	enter    func(ctx context.Context, d *door, g *guest)
}

// guest is a client between accept and its first message.
type guest struct {
	conn  net.Conn
	pass  *admission.Pass
	since time.Time
}

// open opens every listener, or none.
func (s *Server) open() (doors []*door, inner net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, d := range doors {
				_ = d.listener.Close()
			}
		}
	}()
	p := s.cfg.Public
	plan := []struct {
		name, addr, advertise string
		protocols             []string // by ALPN; nil: whatever the client offers is ignored
		enter                 func(context.Context, *door, *guest)
	}{
		{"https", p.HTTPS, p.AdvertiseHTTPS, []string{"http/1.1", alpnSIP, alpnXMPP}, s.enterHTTPS},
		{"sips", p.SIPS, p.AdvertiseSIPS, nil, s.enterSIPS},
		{"xmpps", p.XMPPS, "", []string{alpnXMPP}, s.enterXMPPS},
		{"http", p.HTTP, "", nil, s.enterHTTP},
	}
	for _, d := range plan {
		if d.addr == "" {
			continue
		}
		l, err := s.listen("public."+d.name, d.addr)
		if err != nil {
			return doors, nil, err
		}
		made := &door{name: d.name, listener: l, enter: d.enter, public: d.advertise, timer: s.cfg.Public.FlowTimer.Duration}
		if made.public == "" {
			made.public = s.reachable(l.Addr())
		}
		if d.name != "http" {
			made.tls = s.tlsFor(d.name, d.protocols)
		}
		doors = append(doors, made)
	}
	l, err := s.listen("tunnel.listen", s.cfg.Tunnel.Listen)
	if err != nil {
		return doors, nil, err
	}
	s.note(doors, l)
	return doors, allowed(l, s.cfg.Tunnel.Allow), nil
}

func (s *Server) listen(key, addr string) (net.Listener, error) {
	l, err := s.deps.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return l, nil
}

func (s *Server) note(doors []*door, inner net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range doors {
		s.addrs[d.name] = d.listener.Addr()
	}
	s.addrs["tunnel"] = inner.Addr()
}

// reachable is the public host:port of a listener on addr.
func (s *Server) reachable(addr net.Addr) string {
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return s.cfg.Public.Hostname
	}
	return net.JoinHostPort(s.cfg.Public.Hostname, port)
}

// welcome accepts guests at all doors, until the function returned is called:
// it closes them, sends away who is still in the doorway, and waits for both.
func (s *Server) welcome(ctx context.Context, doors []*door) (closeDoor func()) {
	open, shut := context.WithCancel(ctx)
	var accepting, entering sync.WaitGroup
	for _, d := range doors {
		accepting.Go(func() {
			_ = s.transport.Accept(open, d.listener, func(c net.Conn) {
				if g := s.admit(d, c); g != nil {
					entering.Go(func() { d.enter(open, d, g) })
				}
			})
		})
	}
	return func() {
		shut()
		for _, d := range doors {
			_ = d.listener.Close()
		}
		accepting.Wait()
		entering.Wait()
	}
}

// admit asks for a pass before anything is spent on a connection.
func (s *Server) admit(d *door, c net.Conn) *guest {
	remote := transport.RemoteOf(c)
	pass, why := s.gate.Enter(remote.Addr())
	if pass == nil {
		s.log.Debug("client refused", "listener", d.name, "remote", transport.Remote(remote.Addr()), "reason", string(why))
		_ = c.Close()
		return nil
	}
	return &guest{conn: c, pass: pass, since: time.Now()}
}

// refuse ends a guest that got no further than the doorway.
func (s *Server) refuse(d *door, g *guest, why admission.Reason, err error) {
	s.gate.Refuse(why)
	s.log.Debug("client refused", "listener", d.name,
		"remote", transport.Remote(transport.RemoteOf(g.conn).Addr()), "reason", string(why), "err", err)
	_ = g.conn.Close()
	g.pass.Leave()
}

// handshake ends TLS; nil when the guest was refused.
func (s *Server) handshake(ctx context.Context, d *door, g *guest) *tls.Conn {
	err := transport.Tune(g.conn, s.cfg.Public.TCPUserTimeout.Duration)
	var secure *tls.Conn
	if err == nil {
		secure, err = s.transport.Handshake(ctx, g.conn, d.tls, s.cfg.Limits.HandshakeTimeout.Duration)
	}
	switch {
	case err == nil:
		return secure
	case ctx.Err() != nil:
		s.refuse(d, g, admission.ShuttingDown, ctx.Err())
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.refuse(d, g, admission.TooSlow, err)
	case errors.Is(err, certs.ErrNoCertificate):
		s.refuse(d, g, admission.NoCertificate, err)
	default:
		s.refuse(d, g, admission.Handshake, err)
	}
	return nil
}

// The names of what is spoken without HTTP, in ALPN (IANA registry, XEP-0368).
const alpnSIP, alpnXMPP = "sip", "xmpp-client"

// enterSIPS is SIP over TLS.
func (s *Server) enterSIPS(ctx context.Context, d *door, g *guest) {
	if secure := s.handshake(ctx, d, g); secure != nil {
		s.seatStream(d, g, secure, flow.SIPTLS)
	}
}

// enterXMPPS is XMPP over TLS. Where nobody inside speaks it, no handshake is
// spent on it.
func (s *Server) enterXMPPS(ctx context.Context, d *door, g *guest) {
	if !s.relay.Ready(flow.XMPPTLS) {
		s.refuseKind(d, g, flow.XMPPTLS)
	} else if secure := s.handshake(ctx, d, g); secure != nil {
		s.seatStream(d, g, secure, flow.XMPPTLS)
	}
}

// enterHTTPS is SIP or XMPP over TLS where ALPN says so, otherwise WebSocket.
// Of the certificate authority, the handshake was all it wanted.
func (s *Server) enterHTTPS(ctx context.Context, d *door, g *guest) {
	secure := s.handshake(ctx, d, g)
	switch {
	case secure == nil:
	case secure.ConnectionState().NegotiatedProtocol == certs.ACMEProtocol:
		_ = secure.Close()
		g.pass.Leave()
	case secure.ConnectionState().NegotiatedProtocol == alpnSIP:
		s.seatStream(d, g, secure, flow.SIPTLS)
	case secure.ConnectionState().NegotiatedProtocol == alpnXMPP:
		s.seatStream(d, g, secure, flow.XMPPTLS)
	default:
		s.seatWebSocket(ctx, d, g, secure)
	}
}

// enterHTTP sends every guest to https, but answers the certificate authority.
func (s *Server) enterHTTP(ctx context.Context, _ *door, g *guest) {
	defer context.AfterFunc(ctx, func() { _ = g.conn.Close() })()
	defer g.pass.Leave()
	s.transport.Redirect(g.conn, s.httpsHost(), s.cfg.Limits.HandshakeTimeout.Duration, s.token())
}

// httpsHost is where the redirect leads.
func (s *Server) httpsHost() string {
	public := s.cfg.Public.AdvertiseHTTPS
	if addr := s.Addr("https"); public == "" && addr != nil {
		public = s.reachable(addr)
	}
	if host, port, err := net.SplitHostPort(public); err == nil && port == "443" {
		return host
	}
	return public
}

func (s *Server) seatStream(d *door, g *guest, secure *tls.Conn, k flow.Kind) {
	if !s.relay.Ready(k) {
		_ = secure.Close()
		s.refuseKind(d, g, k)
		return
	}
	conn := s.transport.Stream
	if k == flow.XMPPTLS {
		conn = s.transport.Raw
	}
	s.relay.Serve(conn(secure), k, d.info(g, secure), g.pass)
}

// refuseKind ends a guest to whom nobody inside could talk.
func (s *Server) refuseKind(d *door, g *guest, k flow.Kind) {
	why := admission.NoCore
	if s.acceptor.Ready() {
		why = admission.NoService
		s.noService(k)
	}
	s.refuse(d, g, why, tunnel.ErrNoCore)
}

// noService says, once for each service, that the cores do not carry it.
func (s *Server) noService(k flow.Kind) {
	if _, said := s.unserved.LoadOrStore(k.Service(), true); !said {
		s.log.Warn("clients are refused: no core that is connected carries their service",
			"service", k.Service(), "remedy", "configure a domain of it on a core, or turn its listener off here")
	}
}

// kindOf is what a WebSocket client is, by its subprotocol.
func kindOf(subprotocol string) flow.Kind {
	if subprotocol == transport.XMPP {
		return flow.XMPPWSS
	}
	return flow.SIPWSS
}

func (s *Server) seatWebSocket(ctx context.Context, d *door, g *guest, secure *tls.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = g.conn.Close() })
	conn, asked, err := s.transport.WebSocket(secure, transport.Upgrade{
		Origins: s.cfg.Public.Origins, Timeout: s.cfg.Limits.HandshakeTimeout.Duration,
		Ready:      func(subprotocol string) bool { return s.relay.Ready(kindOf(subprotocol)) },
		RetryAfter: retryAfter,
	})
	stop()
	if err != nil {
		s.deny(d, g, err)
		return
	}
	info := d.info(g, secure)
	info.Host, info.Path, info.Origin, info.Subprotocol = asked.Host, asked.Path, asked.Origin, asked.Subprotocol
	s.relay.Serve(conn, kindOf(asked.Subprotocol), info, g.pass)
}

// info is what the core is told of a guest.
func (d *door) info(g *guest, secure *tls.Conn) tunnel.Info {
	state := secure.ConnectionState()
	return tunnel.Info{
		Remote: transport.RemoteOf(g.conn), Public: d.public,
		SNI: state.ServerName, TLSVersion: state.Version, FlowTimer: d.timer, Since: g.since,
	}
}

// denied counts refused upgrades under their reasons.
var denied = map[transport.Denied]admission.Reason{
	transport.DeniedTimeout:     admission.TooSlow,
	transport.DeniedHTTP:        admission.HTTP,
	transport.DeniedPath:        admission.NotFound,
	transport.DeniedOrigin:      admission.Origin,
	transport.DeniedSubprotocol: admission.Subprotocol,
}

// deny ends a guest whose request was answered, and not with an upgrade. Who
// asked for a page, and got it, is not refused.
func (s *Server) deny(d *door, g *guest, err error) {
	var no *transport.Refusal
	switch {
	case !errors.As(err, &no):
		s.refuse(d, g, admission.HTTP, err)
	case no.Why == transport.Told:
		g.pass.Leave()
	case no.Why == transport.DeniedNotReady:
		s.refuseKind(d, g, kindOf(no.Subprotocol))
	default:
		s.refuse(d, g, denied[no.Why], err)
	}
}

// only lets through connections from some networks.
type only struct {
	net.Listener
	from []netip.Prefix
}

// allowed restricts l to the CIDRs given, which were checked; none: to none.
func allowed(l net.Listener, cidrs []string) net.Listener {
	if len(cidrs) == 0 {
		return l
	}
	o := &only{Listener: l}
	for _, c := range cidrs {
		if p, err := prefix(c); err == nil {
			o.from = append(o.from, p)
		}
	}
	return o
}

func (o *only) Accept() (net.Conn, error) {
	for {
		c, err := o.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := transport.RemoteOf(c).Addr()
		for _, p := range o.from {
			if p.Contains(addr) {
				return c, nil
			}
		}
		_ = c.Close()
	}
}
