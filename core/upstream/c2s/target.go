package c2s

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Scheme is how a server is reached.
type Scheme string

// The schemes of an upstream.
const (
	STARTTLS  Scheme = "xmpp"       // TCP, and TLS before anything else (RFC 6120 §5)
	DirectTLS Scheme = "xmpps"      // TLS from the first byte (XEP-0368)
	Plain     Scheme = "xmpp+plain" // TCP: the same host, or a wire that nobody else is on
	WS        Scheme = "ws"         // a WebSocket (RFC 7395) in plain
	WSS       Scheme = "wss"        // a WebSocket over TLS
)

// schemes tell the port that is meant when neither URI nor DNS names one, and
// the SRV service that may (RFC 6120 §3.2, XEP-0368 §3).
var schemes = map[Scheme]struct {
	port    uint16
	service string
}{
	STARTTLS:  {5222, "xmpp-client"},
	DirectTLS: {5223, "xmpps-client"},
	Plain:     {5222, ""},
	WS:        {80, ""},
	WSS:       {443, ""},
}

// Target is where an upstream leads.
type Target struct {
	URI    string // as configured
	Scheme Scheme
	Host   string // a name or an address, without brackets
	Port   uint16 // 0: DNS decides
	Path   string // of a WebSocket, with its query
}

// ParseTarget reads an upstream. The error names it and what to write instead.
func ParseTarget(uri string) (Target, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return Target{}, fmt.Errorf("%q is no URL: %w", uri, errors.Unwrap(err))
	}
	t := Target{URI: uri, Scheme: Scheme(u.Scheme), Host: u.Hostname()}
	if _, ok := schemes[t.Scheme]; !ok {
		return Target{}, fmt.Errorf("%q: must begin with xmpp://, xmpps://, xmpp+plain://, ws:// or wss://", uri)
	}
	switch {
	case t.Host == "":
		return Target{}, fmt.Errorf("%q names no host", uri)
	case u.User != nil:
		return Target{}, fmt.Errorf("%q must hold no user or password: clients log in by themselves", uri)
	case u.Fragment != "":
		return Target{}, fmt.Errorf("%q must hold no fragment", uri)
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Target{}, fmt.Errorf("%q: port %s is none", uri, port)
		}
		t.Port = uint16(n)
	}
	if t.web() {
		t.Path = u.RequestURI()
	} else if u.Path != "" || u.RawQuery != "" {
		return Target{}, fmt.Errorf("%q must end after the port", uri)
	}
	return t, nil
}

// web says whether the target is a WebSocket.
func (t Target) web() bool { return t.Scheme == WS || t.Scheme == WSS }

// port is the one that is meant when neither URI nor DNS names one.
func (t Target) port() uint16 {
	if t.Port != 0 {
		return t.Port
	}
	return schemes[t.Scheme].port
}

// hostport is the target's host as HTTP names it.
func (t Target) hostport() string {
	host := t.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if t.Port == 0 {
		return host
	}
	return host + ":" + strconv.Itoa(int(t.Port))
}

// Resolver is what the package asks of DNS; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// maxPlaces bounds the addresses of one target.
const maxPlaces = 16

// errNotOffered: SRV says that there is no such service (RFC 2782).
var errNotOffered = errors.New("DNS says that the service is not offered")

// resolve turns the target into addresses in the order in which they are to be
// tried: SRV where the target names no port, else the host itself.
func (t Target) resolve(ctx context.Context, r Resolver) ([]netip.AddrPort, error) {
	if a, err := netip.ParseAddr(t.Host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), t.port())}, nil
	}
	if service := schemes[t.Scheme].service; t.Port == 0 && service != "" {
		if _, records, err := r.LookupSRV(ctx, service, "tcp", t.Host); err == nil && len(records) > 0 {
			return resolveSRV(ctx, r, records)
		}
	}
	return resolveHost(ctx, r, t.Host, t.port())
}

// resolveSRV resolves records, which come in the order to be tried. A name
// among them that does not resolve is passed over.
func resolveSRV(ctx context.Context, r Resolver, records []*net.SRV) (found []netip.AddrPort, err error) {
	if len(records) == 1 && records[0].Target == "." {
		return nil, errNotOffered
	}
	var failed []error
	for _, rec := range records {
		some, err := resolveHost(ctx, r, strings.TrimSuffix(rec.Target, "."), rec.Port)
		if err != nil {
			failed = append(failed, err)
		}
		found = append(found, some...)
		if len(found) >= maxPlaces {
			return found[:maxPlaces], nil
		}
	}
	if len(found) == 0 {
		return nil, errors.Join(failed...)
	}
	return found, nil
}

func resolveHost(ctx context.Context, r Resolver, host string, port uint16) (found []netip.AddrPort, err error) {
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	for _, a := range addrs[:min(len(addrs), maxPlaces)] {
		found = append(found, netip.AddrPortFrom(a.Unmap(), port))
	}
	return found, nil
}
