package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Config says where to listen, whom to trust and whom to dial. Zero tunables
// get defaults.
type Config struct {
	// Listen are "tcp:HOST:PORT", "udp:HOST:PORT" and "tls:HOST:PORT". An
	// empty host listens on all addresses.
	Listen []string
	// Trusted may send requests here. Empty: the addresses the upstreams
	// resolve to.
	Trusted []netip.Prefix
	// Upstreams are the SIP URIs of each domain's servers, in the order they
	// are tried. Transport is tcp unless the URI says ;transport=udp or =tls,
	// or is a sips: one, or names no port and DNS names another (RFC 3263).
	Upstreams map[string][]string
	// ClientTLS makes what each domain's servers are met with over TLS, anew for
	// each connection; a domain that is not in it trusts the system's roots. ServerName is set here: it
	// is the host of the URI (RFC 5922 §4), whatever DNS made of it.
	ClientTLS map[string]func() *tls.Config
	// ServerTLS is what tls: listeners show.
	ServerTLS *tls.Config
	// Probe is how often each server of a domain is asked by OPTIONS whether it
	// is well, give or take a fifth. 0: never; then only failures tell.
	Probe time.Duration
	// MaxMessage bounds one message in bytes. Defaults to 64 KiB.
	MaxMessage int

	// QueueBytes bounds what waits to be written to one connection. Defaults
	// to 4 MiB; beyond it Send fails.
	QueueBytes int
	// WriteTimeout bounds one write. Defaults to 10 s.
	WriteTimeout time.Duration
	// DialTimeout bounds the connecting to one address. Defaults to 5 s.
	DialTimeout time.Duration
	// ResolveEvery is how often upstream names are resolved again. Defaults to
	// 1 min.
	ResolveEvery time.Duration
	// KeepAlive is how often CRLFCRLF goes out on dialled connections (RFC
	// 5626 §3.5.1). Defaults to 55 s.
	KeepAlive time.Duration
	// MaxConns bounds the accepted connections. Defaults to 1024.
	MaxConns int

	// ListenTCP, ListenUDP, DialTCP, DialUDP and Resolver stand in for the
	// network. Nil means the real one. DialUDP connects a socket for OPTIONS,
	// so that a port that nobody listens on is heard of (ICMP).
	ListenTCP func(ctx context.Context, address string) (net.Listener, error)
	ListenUDP func(ctx context.Context, address string) (net.PacketConn, error)
	DialTCP   func(ctx context.Context, address string) (net.Conn, error)
	DialUDP   func(ctx context.Context, local netip.Addr, address string) (net.Conn, error)
	Resolver  Resolver
}

// Resolver is what upstream asks of DNS; [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// Validate returns all faults joined, each naming its key.
func (c Config) Validate() error {
	var errs []error
	for _, l := range c.Listen {
		transport, _, err := splitListen(l)
		if err == nil && transport == tlsTransport && c.ServerTLS == nil {
			err = fmt.Errorf("%q: needs a certificate", l)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("sip.listen: %w", err))
		}
	}
	for _, domain := range slices.Sorted(maps.Keys(c.Upstreams)) {
		if len(c.Upstreams[domain]) == 0 {
			errs = append(errs, fmt.Errorf("sip.domain %s: upstream: none given", domain))
		}
		for _, uri := range c.Upstreams[domain] {
			t, err := ParseTarget(uri)
			if err == nil && t.Transport == udp && !c.listensUDP() {
				err = fmt.Errorf("%q: transport=udp needs a udp: entry in sip.listen", uri)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("sip.domain %s: upstream: %w", domain, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (c Config) listensUDP() bool {
	return slices.ContainsFunc(c.Listen, func(l string) bool { return strings.HasPrefix(l, "udp:") })
}

func (c Config) withDefaults() Config {
	setDefault(&c.MaxMessage, 64<<10)
	setDefault(&c.QueueBytes, 4<<20)
	setDefault(&c.MaxConns, 1024)
	setDefault(&c.WriteTimeout, 10*time.Second)
	setDefault(&c.DialTimeout, 5*time.Second)
	setDefault(&c.ResolveEvery, time.Minute)
	setDefault(&c.KeepAlive, 55*time.Second)
	if c.ListenTCP == nil {
		c.ListenTCP = func(ctx context.Context, address string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(ctx, "tcp", address)
		}
	}
	if c.ListenUDP == nil {
		c.ListenUDP = func(ctx context.Context, address string) (net.PacketConn, error) {
			return new(net.ListenConfig).ListenPacket(ctx, "udp", address)
		}
	}
	if c.DialTCP == nil {
		c.DialTCP = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	if c.DialUDP == nil {
		c.DialUDP = func(ctx context.Context, local netip.Addr, address string) (net.Conn, error) {
			d := net.Dialer{}
			if local.IsValid() && !local.IsUnspecified() {
				d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
			}
			return d.DialContext(ctx, "udp", address)
		}
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	return c
}

func setDefault[T int | time.Duration](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// Transports as they are written in Via.
const (
	tcp          = "TCP"
	udp          = "UDP"
	tlsTransport = "TLS"
)

// splitListen takes "tcp:10.0.0.5:5060" apart.
func splitListen(s string) (transport, address string, err error) {
	kind, address, ok := strings.Cut(s, ":")
	if _, _, e := net.SplitHostPort(address); !ok || e != nil {
		return "", "", fmt.Errorf("%q: want tcp:HOST:PORT, udp:HOST:PORT or tls:HOST:PORT", s)
	}
	switch kind {
	case "tcp":
		return tcp, address, nil
	case "udp":
		return udp, address, nil
	case "tls":
		return tlsTransport, address, nil
	}
	return "", "", fmt.Errorf("%q: %s is not offered: use tcp, udp or tls", s, kind)
}

func discardIfNil(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
