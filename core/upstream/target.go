package upstream

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"sallyport/core/sipmsg"
)

// Target is where an upstream URI leads.
type Target struct {
	// URI is as configured.
	URI string
	// Host is a name or an address, without brackets.
	Host string
	// Port is 0 when DNS SRV decides (RFC 3263 §4.2).
	Port uint16
	// Transport is "TCP", "UDP" or "TLS".
	Transport string
	// Open: the URI names no transport, so that DNS may (RFC 3263 §4.1).
	Open bool
}

// ParseTarget reads an upstream's SIP URI. The error names the URI and what to
// write instead.
func ParseTarget(uri string) (Target, error) {
	u, err := sipmsg.ParseURI(uri)
	if err != nil {
		return Target{}, fmt.Errorf("%q: %w", uri, err)
	}
	if u.Scheme != "sip" && u.Scheme != "sips" {
		return Target{}, fmt.Errorf("%q: want a sip: or sips: URI", uri)
	}
	t := Target{URI: uri, Host: strings.Trim(u.Host, "[]"), Port: uint16(u.Port), Transport: tcp}
	name, _ := u.Params.Get("transport")
	switch strings.ToLower(name) {
	case "":
		t.Open = u.Scheme == "sip" && t.Port == 0
	case "tcp":
	case "udp":
		t.Transport = udp
	case "tls":
		t.Transport = tlsTransport
	default:
		return Target{}, fmt.Errorf("%q: transport=%s is not offered: use tcp, udp or tls", uri, name)
	}
	if u.Scheme == "sips" {
		if t.Transport == udp {
			return Target{}, fmt.Errorf("%q: sips: is never over UDP: use transport=tcp or leave it out", uri)
		}
		t.Transport = tlsTransport
	}
	return t, nil
}

// literal says whether the host is an address.
func (t Target) literal() bool {
	_, err := netip.ParseAddr(t.Host)
	return err == nil
}

// port is the one that is meant when neither URI nor DNS names one.
func (t Target) port() uint16 {
	switch {
	case t.Port != 0:
		return t.Port
	case t.Transport == tlsTransport:
		return 5061
	}
	return defaultPort
}

// defaultPort is SIP's over TCP and UDP.
const defaultPort = 5060

// splitHop reads "10.0.0.7:5060", with "tcp:", "udp:" or "tls:" before it or
// not.
func splitHop(hostport string) (Target, error) {
	t := Target{URI: hostport, Transport: tcp}
	rest := hostport
	for prefix, transport := range map[string]string{"udp:": udp, "tls:": tlsTransport, "tcp:": tcp} {
		if s, ok := strings.CutPrefix(rest, prefix); ok {
			t.Transport, rest = transport, s
			break
		}
	}
	host, port, err := splitPort(rest, t.port())
	if err != nil {
		return Target{}, fmt.Errorf("next hop %q: %w", hostport, err)
	}
	t.Host, t.Port = host, port
	return t, nil
}

func splitPort(s string, missing uint16) (string, uint16, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.String(), missing, nil
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, missing, nil
	}
	port, err := strconv.ParseUint(s[i+1:], 10, 16)
	if err != nil || port == 0 || i == 0 {
		return "", 0, fmt.Errorf("want HOST:PORT")
	}
	return strings.Trim(s[:i], "[]"), uint16(port), nil
}
