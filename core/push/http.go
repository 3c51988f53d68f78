package push

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// ProxyFunc returns what [http.Transport.Proxy] wants: the egress proxy, which
// is http://USER:PASSWORD@HOST:PORT and asked with CONNECT and Basic
// credentials, for all hosts but those in direct. An entry of direct is a host,
// a .suffix of hosts, an IP address or a CIDR prefix. With proxy "" the function
// is nil. Errors never repeat the proxy's URL: it may hold a password.
func ProxyFunc(proxy string, direct []string) (func(*http.Request) (*url.URL, error), error) {
	if proxy == "" {
		return nil, nil
	}
	u, err := url.Parse(proxy)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("push.proxy: must be http://HOST:PORT or https://HOST:PORT")
	}
	var skip exceptions
	for _, entry := range direct {
		if err := skip.add(entry); err != nil {
			return nil, fmt.Errorf("push.no_proxy: %w", err)
		}
	}
	return func(r *http.Request) (*url.URL, error) {
		if skip.has(r.URL.Hostname()) {
			return nil, nil
		}
		return u, nil
	}, nil
}

// ProxyName names the proxy on the way to a URL, without user and password;
// "none" where there is none. proxy is what [ProxyFunc] returned.
func ProxyName(proxy func(*http.Request) (*url.URL, error), to *url.URL) string {
	if proxy == nil || to == nil {
		return "none"
	}
	via, err := proxy(&http.Request{URL: to})
	if err != nil || via == nil {
		return "none"
	}
	return via.Scheme + "://" + via.Host
}

// Trust is the TLS configuration of connections to a provider: TLS 1.2 and up,
// and the certificates of caFile, PEM, in place of the system's roots unless it
// is "".
func Trust(caFile string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return t, nil
	}
	text, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", caFile)
	}
	return t, nil
}

// exceptions are hosts that are reached without a proxy. Static after add.
type exceptions struct {
	hosts    map[string]bool
	suffixes []string // each begins with a dot
	prefixes []netip.Prefix
}

func (e *exceptions) add(entry string) error {
	host := strings.ToLower(strings.TrimSuffix(entry, "."))
	bare := strings.Trim(host, "[]")
	if a, err := netip.ParseAddr(bare); err == nil {
		e.prefixes = append(e.prefixes, netip.PrefixFrom(a, a.BitLen()))
		return nil
	}
	if p, err := netip.ParsePrefix(host); err == nil {
		e.prefixes = append(e.prefixes, p.Masked())
		return nil
	}
	switch {
	case strings.Trim(host, ".") == "" || strings.ContainsAny(host, "/:@*[] "):
		return fmt.Errorf("%q is not a host, a .suffix, an address or a prefix", entry)
	case strings.HasPrefix(host, "."):
		e.suffixes = append(e.suffixes, host)
	default:
		if e.hosts == nil {
			e.hosts = make(map[string]bool)
		}
		e.hosts[host] = true
	}
	return nil
}

func (e *exceptions) has(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if e.hosts[host] {
		return true
	}
	for _, s := range e.suffixes {
		if strings.HasSuffix(host, s) {
			return true
		}
	}
	a, err := netip.ParseAddr(host)
	for i := 0; err == nil && i < len(e.prefixes); i++ {
		if e.prefixes[i].Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

// maxRetryAfter bounds what a provider can make us wait: no note is kept longer
// than the day that is the default of [Config.Keep].
const maxRetryAfter = 24 * time.Hour

// RetryAfter reads a Retry-After header (RFC 9110 §10.2.3), which is seconds or
// a date, and returns how long it asks to wait from now: at most a day, and 0
// where it asks for nothing or cannot be read.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		if n > uint64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, min(at.Sub(now), maxRetryAfter))
	}
	return 0
}
