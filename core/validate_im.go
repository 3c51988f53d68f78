package core

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The words that keys of [im] may have, the default first.
var (
	suspendedPresences = []string{"away", "keep", "unavailable"}
	resumeWays         = []string{"probe", "swap"}
)

// Bounds of what an XMPP session may hold. An element may be as long as
// minSessionBytes (core/stanza).
const (
	minSessionBytes = 256 << 10
	maxSessionBytes = 64 << 20
	maxPerSession   = 100_000
)

// xmppSchemes are those of xmpp.domain.upstream.
var xmppSchemes = []string{"xmpp", "xmpps", "xmpp+plain", "ws", "wss"}

func (c *Config) validateXMPP(f *faults) {
	seen := map[string]bool{}
	for i, d := range c.XMPP.Domains {
		at := fmt.Sprintf("xmpp.domain[%d]", i)
		if !isDomain(d.Name) {
			f.add(at+".name", "must be the domain of the JIDs, such as example.com (got %q)", d.Name)
		}
		if name := strings.ToLower(d.Name); seen[name] {
			f.add(at+".name", "%q is named twice", d.Name)
		} else {
			seen[name] = true
		}
		if err := xmppUpstream(d.Upstream); err != nil {
			f.add(at+".upstream", "%v", err)
		}
	}
}

// isDomain says whether a name can be the domain of a JID: a name or address
// with nothing around it.
func isDomain(name string) bool {
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	return name != "" && len(name) <= 255 && !strings.ContainsAny(name, " \t\r\n<>&'\"/@:[]\\")
}

func xmppUpstream(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no URL: %w", s, err)
	case !slices.Contains(xmppSchemes, u.Scheme):
		return fmt.Errorf("must begin with %s:// (got %q)", strings.Join(xmppSchemes, "://, "), s)
	case u.Hostname() == "":
		return fmt.Errorf("%q names no host", s)
	case u.User != nil:
		return fmt.Errorf("%q must hold no user or password: clients log in by themselves", s)
	case !strings.HasPrefix(u.Scheme, "ws") && (u.Path != "" || u.RawQuery != ""):
		return fmt.Errorf("%q must end after the port", s)
	}
	if _, port, err := net.SplitHostPort(u.Host); err == nil {
		return hostPort(net.JoinHostPort(u.Hostname(), port))
	}
	return nil
}

func (c *Config) validateIM(f *faults) {
	m := c.IM
	if m.Keep.Duration <= 0 {
		f.add("im.keep", "must be positive (got %v)", m.Keep)
	}
	if m.PerDevice < 1 {
		f.add("im.per_device", "must be at least 1 (got %d)", m.PerDevice)
	}
	if m.PerAOR < m.PerDevice {
		f.add("im.per_aor", "must be at least im.per_device, %d (got %d)", m.PerDevice, m.PerAOR)
	}
	if m.PerSession < 1 || m.PerSession > maxPerSession {
		f.add("im.per_session", "must be 1 to %d (got %d)", maxPerSession, m.PerSession)
	}
	if m.PerSessionBytes < minSessionBytes || m.PerSessionBytes > maxSessionBytes {
		f.add("im.per_session_bytes", "must be 256KiB to 64MiB (got %v)", m.PerSessionBytes)
	}
	if !slices.Contains(suspendedPresences, m.SuspendedPresence) {
		f.add("im.suspended_presence", "must be away, keep or unavailable (got %q)", m.SuspendedPresence)
	}
	if m.AwayDelay.Duration < 0 {
		f.add("im.away_delay", "must not be negative (got %v)", m.AwayDelay)
	}
	if !slices.Contains(resumeWays, m.Resume) {
		f.add("im.resume", "must be probe or swap (got %q)", m.Resume)
	}
	if m.ResumeMax.Duration < time.Minute {
		f.add("im.resume_max", "must be at least 1m (got %v)", m.ResumeMax)
	}
	if m.DesktopActive.Duration < 0 {
		f.add("im.desktop_active", "must not be negative (got %v)", m.DesktopActive)
	}
}
