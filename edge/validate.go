package edge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/tunnel/unit"
)

// maxMessage is the longest message that fits into one frame of the tunnel.
const maxMessage = 64 << 10

// faults collects what is wrong with a config, each under its key.
type faults []error

func (f *faults) add(key, format string, args ...any) {
	*f = append(*f, fmt.Errorf(key+": "+format, args...))
}

// Validate returns every fault, each as "section.key: what is wrong". It opens
// no file and no socket.
func (c Config) Validate() error {
	var f faults
	c.Public.validate(&f)
	c.TLS.validate(&f)
	c.validateACME(&f)
	c.Tunnel.validate(&f)
	c.Limits.validate(&f)
	f.address("admin.listen", c.Admin.Listen, false)
	f.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	f.oneOf("log.format", c.Log.Format, "json", "text")
	return errors.Join(f...)
}

func (p Public) validate(f *faults) {
	switch {
	case p.Hostname == "":
		f.add("public.hostname", "is empty: set the name that clients are told")
	case !isHost(p.Hostname):
		f.add("public.hostname", "%q is no DNS name or IP address (no scheme, no port)", p.Hostname)
	}
	f.address("public.https", p.HTTPS, false)
	f.address("public.sips", p.SIPS, false)
	f.address("public.http", p.HTTP, false)
	f.address("public.xmpps", p.XMPPS, false)
	if !p.open() {
		f.add("public.https", "public.sips and public.xmpps are all off: clients have no way in")
	}
	if p.HTTP != "" && p.HTTPS == "" {
		f.add("public.http", "redirects to public.https, which is off: turn both on or both off")
	}
	f.advertised("public.advertise_sips", p.AdvertiseSIPS)
	f.advertised("public.advertise_https", p.AdvertiseHTTPS)
	for _, o := range p.Origins {
		if !isOrigin(o) {
			f.add("public.origins", `%q is no origin: write "*", or scheme://host[:port], where host may begin with "*."`, o)
		}
	}
	f.between("public.ws_ping", p.WSPing, time.Second, time.Hour)
	f.between("public.pong_timeout", p.PongTimeout, 100*time.Millisecond, time.Hour)
	f.between("public.flow_timer", p.FlowTimer, time.Second, 24*time.Hour)
	f.between("public.tcp_user_timeout", p.TCPUserTimeout, time.Second, time.Hour)
}

// open reports whether clients have any way in.
func (p Public) open() bool { return p.HTTPS != "" || p.SIPS != "" || p.XMPPS != "" }

func (t TLS) validate(f *faults) {
	pair := func(key, cert, private string) {
		switch {
		case cert != "" && private == "":
			f.add(key+"key", "is empty, but %scert is set: name the private key's file", key)
		case cert == "" && private != "":
			f.add(key+"cert", "is empty, but %skey is set: name the certificate's file", key)
		}
	}
	pair("tls.", t.Cert, t.Key)
	for i, c := range t.Certificates {
		key := fmt.Sprintf("tls.certificate[%d].", i)
		if pair(key, c.Cert, c.Key); c.Cert == "" && c.Key == "" {
			f.add(key+"cert", "is empty")
		}
		for _, n := range c.Names {
			if !isHost(strings.TrimPrefix(n, "*.")) {
				f.add(key+"names", "%q is no DNS name", n)
			}
		}
	}
	if !t.ACME && !t.files() {
		f.add("tls.cert", "is empty and tls.acme is false: set tls.cert and tls.key, or tls.acme = true")
	}
	if t.ACMEEmail != "" && (strings.Count(t.ACMEEmail, "@") != 1 || strings.ContainsAny(t.ACMEEmail, " ,<>:?")) {
		f.add("tls.acme_email", "%q is no mail address: write one, without a name or a scheme, or none", t.ACMEEmail)
	}
	if u, err := url.Parse(t.ACMEDirectory); t.ACMEDirectory != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		f.add("tls.acme_directory", "%q is no https URL", t.ACMEDirectory)
	}
	if t.ACME && t.ACMEDir == "" {
		f.add("tls.acme_dir", "is empty: ACME needs a place to keep its account and certificates")
	}
}

// validateACME checks what an authority needs to certify the hostname, where
// that is sound by itself.
func (c Config) validateACME(f *faults) {
	if !c.TLS.byACME() {
		return
	}
	host := strings.TrimSuffix(c.Public.Hostname, ".")
	_, err := netip.ParseAddr(host)
	if isHost(host) && (err == nil || !strings.Contains(host, ".")) {
		f.add("tls.acme", "no authority is asked to certify %q: set public.hostname to a DNS name with a dot, or name files in tls.cert and tls.key", c.Public.Hostname)
	}
	if c.Public.HTTPS == "" && c.Public.open() && c.Public.HTTP == "" { // otherwise that is said already
		f.add("tls.acme", "the certificate authority calls on public.https, which is off: turn it on, or name files in tls.cert and tls.key")
	}
}

// files reports whether any certificate is named.
func (t TLS) files() bool { return t.Cert != "" || len(t.Certificates) > 0 }

func (t Tunnel) validate(f *faults) {
	f.address("tunnel.listen", t.Listen, true)
	for _, a := range t.Allow {
		if _, err := prefix(a); err != nil {
			f.add("tunnel.allow", "%q is no CIDR, such as 10.1.0.0/24", a)
		}
	}
	if t.Identity == "" {
		f.add("tunnel.identity", "is empty: make a bundle with `sallyport certs issue --edge` and name its file")
	}
}

func (l Limits) validate(f *faults) {
	f.positive("limits.max_flows", l.MaxFlows)
	f.positive("limits.flows_per_ip", l.FlowsPerIP)
	f.positive("limits.new_flows_per_second", l.NewFlowsPerSecond)
	f.positive("limits.new_flows_per_ip_per_second", l.NewFlowsPerIPPerSecond)
	f.between("limits.handshake_timeout", l.HandshakeTimeout, 100*time.Millisecond, 5*time.Minute)
	f.between("limits.first_message_timeout", l.FirstMessageTimeout, 100*time.Millisecond, time.Hour)
	if l.MaxMessage < 1024 || l.MaxMessage > maxMessage {
		f.add("limits.max_message", "must be from 1KiB to 64KiB, the longest that one frame of the tunnel holds (got %v)", l.MaxMessage)
	}
	if r := l.XMPPRate; r != 0 && (r < minXMPPRate || r > maxXMPPRate) {
		f.add("limits.xmpp_rate", "must be from 16KiB to 1GiB, or 0B for any (got %v)", r)
	}
}

// These bound limits.xmpp_rate, where there is one.
const minXMPPRate, maxXMPPRate = 16 << 10, 1 << 30

func (f *faults) positive(key string, n int) {
	if n <= 0 {
		f.add(key, "must be positive (got %d)", n)
	}
}

// advertised checks an address that clients are told, host:port or none.
func (f *faults) advertised(key, addr string) {
	if addr == "" {
		return
	}
	if host, port, err := net.SplitHostPort(addr); err != nil || !isHost(host) || !isPort(port) {
		f.add(key, "%q is no host:port", addr)
	}
}

func (f *faults) between(key string, d unit.Duration, low, high time.Duration) {
	if d.Duration < low || d.Duration > high {
		f.add(key, "must be from %v to %v (got %v)", unit.Duration{Duration: low}, unit.Duration{Duration: high}, d)
	}
}

// address checks an address to listen on, [host]:port.
func (f *faults) address(key, addr string, needed bool) {
	if addr == "" {
		if needed {
			f.add(key, "is empty: name the address to listen on")
		}
		return
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !isPort(port) || host != "" && !isHost(host) {
		f.add(key, `%q is no address to listen on: write host:port or :port`, addr)
	}
}

func (f *faults) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		f.add(key, "%q is none of %s", value, strings.Join(allowed, ", "))
	}
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// isHost accepts IP addresses and DNS names.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		bad := strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
		if label == "" || len(label) > 63 || bad || label[0] == '-' {
			return false
		}
	}
	return true
}

func isOrigin(s string) bool {
	if s == "*" {
		return true
	}
	scheme, host, ok := strings.Cut(s, "://")
	if h, port, err := net.SplitHostPort(host); err == nil && isPort(port) {
		host = strings.Trim(h, "[]")
	}
	return ok && scheme != "" && isHost(strings.TrimPrefix(host, "*."))
}

// prefix reads a CIDR, or a single address as one.
func prefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}
