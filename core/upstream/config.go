package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/core/sipmsg"
)

// Config says where to listen, whom to trust and whom to dial. Zero tunables
// get defaults.
type Config struct {
	// Listen are "tcp:HOST:PORT" and "udp:HOST:PORT". An empty host listens
	// on all addresses.
	Listen []string
	// Trusted may send requests here. Empty: the addresses the upstreams
	// resolve to.
	Trusted []netip.Prefix
	// Upstreams are the SIP URIs of each domain's servers, in the order they
	// are tried. Transport is tcp unless the URI says ;transport=udp.
	Upstreams map[string][]string
	// MaxMessage bounds one message in bytes. Defaults to 64 KiB.
	MaxMessage int

	// QueueBytes bounds what waits to be written to one connection. Defaults
	// to 4 MiB; beyond it Send fails.
	QueueBytes int
	// WriteTimeout bounds one write. Defaults to 10 s.
	WriteTimeout time.Duration
	// DialTimeout bounds the connecting to one address. Defaults to 5 s.
	DialTimeout time.Duration
	// ResolveEvery is how often upstream names are resolved again for the
	// default of Trusted. Defaults to 1 min.
	ResolveEvery time.Duration
	// KeepAlive is how often CRLFCRLF goes out on dialled connections (RFC
	// 5626 §3.5.1). Defaults to 55 s.
	KeepAlive time.Duration
	// MaxConns bounds the accepted connections. Defaults to 1024.
	MaxConns int

	// ListenTCP, ListenUDP, DialTCP and Resolver stand in for the network.
	// Nil means the real one.
	ListenTCP func(ctx context.Context, address string) (net.Listener, error)
	ListenUDP func(ctx context.Context, address string) (net.PacketConn, error)
	DialTCP   func(ctx context.Context, address string) (net.Conn, error)
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
		if _, _, err := splitListen(l); err != nil {
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
	tcp = "TCP"
	udp = "UDP"
)

// splitListen takes "tcp:10.0.0.5:5060" apart.
func splitListen(s string) (transport, address string, err error) {
	kind, address, ok := strings.Cut(s, ":")
	if _, _, e := net.SplitHostPort(address); !ok || e != nil {
		return "", "", fmt.Errorf("%q: want tcp:HOST:PORT or udp:HOST:PORT", s)
	}
	switch kind {
	case "tcp":
		return tcp, address, nil
	case "udp":
		return udp, address, nil
	}
	return "", "", fmt.Errorf("%q: %s is not offered: use tcp or udp", s, kind)
}

// Target is where an upstream URI leads.
type Target struct {
	// URI is as configured.
	URI string
	// Host is a name or an address, without brackets.
	Host string
	// Port is 0 when DNS SRV decides (RFC 3263 §4.2).
	Port uint16
	// Transport is "TCP" or "UDP".
	Transport string
}

// ParseTarget reads an upstream's SIP URI. The error names the URI and what to
// write instead.
func ParseTarget(uri string) (Target, error) {
	u, err := sipmsg.ParseURI(uri)
	if err != nil {
		return Target{}, fmt.Errorf("%q: %w", uri, err)
	}
	if u.Scheme == "sips" {
		return Target{}, fmt.Errorf("%q: TLS to an upstream is not offered: use sip: with ;transport=tcp", uri)
	}
	if u.Scheme != "sip" {
		return Target{}, fmt.Errorf("%q: want a sip: URI", uri)
	}
	t := Target{URI: uri, Host: strings.Trim(u.Host, "[]"), Port: uint16(u.Port), Transport: tcp}
	switch name, _ := u.Params.Get("transport"); strings.ToLower(name) {
	case "", "tcp":
	case "udp":
		t.Transport = udp
	case "tls":
		return Target{}, fmt.Errorf("%q: transport=tls to an upstream is not offered: use ;transport=tcp", uri)
	default:
		return Target{}, fmt.Errorf("%q: transport=%s is not offered: use tcp or udp", uri, name)
	}
	return t, nil
}

func discardIfNil(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
