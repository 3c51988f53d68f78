package webpush

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxURL bounds a token, in bytes. Those of the large push services have 150
// to 350.
const maxURL = 1000

// forbidden says why a URL or an address is not pushed to. It quotes the host
// at most.
type forbidden struct{ why string }

func (f *forbidden) Error() string { return f.why }

func forbid(format string, a ...any) error { return &forbidden{fmt.Sprintf(format, a...)} }

// target is a push service that may be connected to, if its address may.
type target struct {
	origin string // RFC 6454 §6.2: https://HOST, or https://HOST:PORT when it is not 443
	host   string // lower case, without brackets
	port   string
	// named: the operator allowed this very host, wherever it is.
	named bool
}

// portNumber is the port as a number; check saw to it that it is one.
func (t *target) portNumber() uint16 {
	n, _ := strconv.ParseUint(t.port, 10, 16)
	return uint16(n)
}

// policy is which push services clients may name. Static after newPolicy.
type policy struct {
	hosts    map[string]bool // HOST:PORT
	suffixes []suffix
}

type suffix struct{ end, port string } // end begins with a dot

// newPolicy reads the list of [Config.Allow].
func newPolicy(allow []string) (policy, error) {
	p := policy{hosts: make(map[string]bool)}
	for _, entry := range allow {
		host, port := strings.ToLower(strings.TrimSpace(entry)), "443"
		if h, n, err := net.SplitHostPort(host); err == nil {
			host, port = h, n
		}
		host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
		_, notAddr := netip.ParseAddr(host)
		switch n, err := strconv.ParseUint(port, 10, 16); {
		case err != nil || n == 0, strings.Trim(host, ".") == "",
			notAddr != nil && strings.ContainsAny(host, "/:@*[] "):
			return policy{}, fmt.Errorf("%q must be HOST, HOST:PORT or .SUFFIX", entry)
		case strings.HasPrefix(host, "."):
			p.suffixes = append(p.suffixes, suffix{host, port})
		default:
			p.hosts[net.JoinHostPort(host, port)] = true
		}
	}
	return p, nil
}

// admits finds out whether the list allows host and port, and whether by name.
func (p *policy) admits(host, port string) (ok, named bool) {
	if p.hosts[net.JoinHostPort(host, port)] {
		return true, true
	}
	for _, s := range p.suffixes {
		if s.port == port && strings.HasSuffix(host, s.end) {
			return true, false
		}
	}
	return len(p.hosts)+len(p.suffixes) == 0, false
}

// check reads a token and says where it leads, or why nothing is sent there.
func (p *policy) check(token string) (*url.URL, target, error) {
	if len(token) > maxURL {
		return nil, target{}, forbid("the token is a URL of more than %d bytes", maxURL)
	}
	for _, c := range []byte(token) {
		if c <= ' ' || c >= 0x7f {
			return nil, target{}, forbid("the token is no URL")
		}
	}
	u, err := url.Parse(token)
	switch {
	case err != nil || u.Opaque != "":
		return nil, target{}, forbid("the token is no URL")
	case u.Scheme != "https":
		return nil, target{}, forbid("the token is no https URL")
	case u.User != nil:
		return nil, target{}, forbid("the token is a URL with a user in it")
	case strings.Contains(token, "#"):
		return nil, target{}, forbid("the token is a URL with a fragment")
	}
	t := target{host: strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")), port: u.Port()}
	if t.port == "" {
		t.port = "443"
	}
	n, err := strconv.ParseUint(t.port, 10, 16)
	if err != nil || n == 0 || t.host == "" || len(t.host) > 253 || strings.ContainsAny(t.host, "%/\\") {
		return nil, target{}, forbid("the token is a URL without a good host")
	}
	t.port = strconv.FormatUint(n, 10)
	ok := false
	if ok, t.named = p.admits(t.host, t.port); !ok {
		return nil, target{}, forbid("%s is not in allow", net.JoinHostPort(t.host, t.port))
	}
	t.origin = "https://" + net.JoinHostPort(t.host, t.port)
	if t.port == "443" {
		t.origin = strings.TrimSuffix(t.origin, ":443")
	}
	if a, err := netip.ParseAddr(t.host); err == nil {
		if err := t.mayDial(a); err != nil {
			return nil, target{}, err
		}
	}
	u.Host = strings.TrimPrefix(t.origin, "https://")
	return u, t, nil
}

// special are the addresses that are nobody's on the internet (RFC 6890 and
// IANA's registries). Those with never set are pushed to in no case.
var special = []struct {
	prefix netip.Prefix
	what   string
	never  bool
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network", true},
	{netip.MustParsePrefix("10.0.0.0/8"), "private", false},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by carriers", false},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback", false},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local", true},
	{netip.MustParsePrefix("172.16.0.0/12"), "private", false},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved", true},
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation", true},
	{netip.MustParsePrefix("192.88.99.0/24"), "a 6to4 relay", true},
	{netip.MustParsePrefix("192.168.0.0/16"), "private", false},
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks", false},
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation", true},
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation", true},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast", true},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved", true},

	{netip.MustParsePrefix("::1/128"), "loopback", false},
	{netip.MustParsePrefix("fc00::/7"), "private", false},
	{netip.MustParsePrefix("fe80::/10"), "link-local", true},
	{netip.MustParsePrefix("ff00::/8"), "multicast", true},
	{netip.MustParsePrefix("2001::/23"), "for protocols such as Teredo", true},
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation", true},
	{netip.MustParsePrefix("2002::/16"), "6to4", true},
	{netip.MustParsePrefix("3fff::/20"), "for documentation", true},
}

var (
	// global holds every IPv6 address of the internet (RFC 4291 §2.4).
	global = netip.MustParsePrefix("2000::/3")
	// nat64 embeds an IPv4 address in the last 32 bits (RFC 6052 §2.1), which is
	// how machines with IPv6 alone reach the rest.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// mayDial says why a is not connected to, which is a *forbidden.
func (t *target) mayDial(a netip.Addr) error {
	if what, never := classify(a); what != "" && (never || !t.named) {
		return forbid("%s is at %v, an address that is %s", t.host, a, what)
	}
	return nil
}

// classify says what is special about an address, "" for nothing.
func classify(a netip.Addr) (what string, never bool) {
	if a.Zone() != "" {
		return "link-local", true
	}
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	for _, s := range special {
		if s.prefix.Contains(a) {
			return s.what, s.never
		}
	}
	if a.Is6() && !global.Contains(a) {
		return "not of the internet", true
	}
	return "", false
}

// isForbidden finds the refusal in an error of the transport's.
func isForbidden(err error) (*forbidden, bool) { return errors.AsType[*forbidden](err) }
