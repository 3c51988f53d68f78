package webpush_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/core/push"
	"sallyport/core/push/webpush"
)

// strange is a network that a test makes up: names lead where it says, and no
// address answers. It notes what is dialled.
type strange struct {
	hosts map[string][]string

	mu      sync.Mutex
	dialled []string
	asked   int
}

func (s *strange) resolve(_ context.Context, host string) (addrs []netip.Addr, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	for _, a := range s.hosts[host] {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	if addrs == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return addrs, nil
}

func (s *strange) dial(_ context.Context, _, addr string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialled = append(s.dialled, addr)
	return nil, fmt.Errorf("dial %s: no route to host", addr)
}

// client has a network of its own.
func (s *strange) client(t *testing.T, reg prometheus.Registerer, change func(*webpush.Config)) *webpush.Client {
	t.Helper()
	cfg := webpush.Config{
		App: app, KeyFile: newKeyFile(t), Subject: "mailto:ops@example.com",
		Dial: s.dial, Resolve: s.resolve,
	}
	if change != nil {
		change(&cfg)
	}
	return newClient(t, cfg, reg)
}

func TestP31_NothingInsideIsConnectedTo(t *testing.T) {
	s := &strange{hosts: map[string][]string{
		"inside.example":  {"10.1.2.3"},
		"mapped.example":  {"::ffff:192.168.7.7"},
		"mixed.example":   {"fd00::7", "198.51.100.1"},
		"rebound.example": {"127.0.0.1", "::1"},
	}}
	reg := prometheus.NewRegistry()
	c := s.client(t, reg, nil)
	refused := 0
	for token, want := range map[string]string{
		"https://10.0.0.1/x":                            "10.0.0.1 is at 10.0.0.1, an address that is private",
		"https://172.31.255.254/x":                      "private",
		"https://192.168.1.1:8443/x":                    "private",
		"https://100.64.0.1/x":                          "shared by carriers",
		"https://127.0.0.1/x":                           "loopback",
		"https://169.254.169.254/latest/meta-data":      "link-local",
		"https://0.0.0.0/x":                             "this network",
		"https://224.0.0.1/x":                           "multicast",
		"https://255.255.255.255/x":                     "reserved",
		"https://192.88.99.1/x":                         "6to4",
		"https://[::1]/x":                               "loopback",
		"https://[::]/x":                                "not of the internet",
		"https://[::ffff:10.0.0.1]/x":                   "private",
		"https://[::ffff:a9fe:a9fe]/x":                  "link-local",
		"https://[::10.0.0.1]/x":                        "not of the internet",
		"https://[fd12:3456::1]/x":                      "private",
		"https://[fe80::1]/x":                           "link-local",
		"https://[fe80::1%25eth0]/x":                    "without a good host",
		"https://[ff02::1]/x":                           "multicast",
		"https://[2002:a00:1::1]/x":                     "6to4",
		"https://[2001:0:102:304::1]/x":                 "Teredo",
		"https://[64:ff9b::10.0.0.1]/x":                 "private",
		"https://[64:ff9b:1::10.0.0.1]/x":               "not of the internet",
		"https://inside.example/x":                      "inside.example is at 10.1.2.3, an address that is private",
		"https://INSIDE.example./x":                     "private",
		"https://mapped.example/x":                      "private",
		"https://mixed.example/x":                       "for documentation",
		"https://rebound.example/x":                     "loopback",
		"http://198.41.0.4/x":                           "no https URL",
		"ftp://198.41.0.4/x":                            "no https URL",
		"https://user:pw@198.41.0.4/x":                  "a user in it",
		"https://198.41.0.4/x#y":                        "a fragment",
		"https:198.41.0.4/x":                            "no URL",
		"https:///x":                                    "without a good host",
		"https://198.41.0.4:0/x":                        "without a good host",
		"https://198.41.0.4:99999/x":                    "without a good host",
		"https://exa mple/x":                            "no URL",
		"https://h\u00e4user.example/x":                 "no URL",
		"https://198.41.0.4/\r\nX: y":                   "no URL",
		"not a URL":                                     "no URL",
		"":                                              "no https URL",
		"https://a.example/" + strings.Repeat("x", 983): "more than 1000 bytes",
	} {
		r := c.Send(t.Context(), ring(push.Token{Value: token}))
		if r.Outcome != push.Refused || !strings.Contains(r.Reason, want) || r.Retry != 0 {
			t.Errorf("%q: %s, %q, again in %v; want refused with %q", token, r.Outcome, r.Reason, r.Retry, want)
		}
		refused++
	}
	if len(s.dialled) != 0 {
		t.Errorf("dialled %q", s.dialled)
	}
	if n, err := testutil.GatherAndCount(reg, "sallyport_push_webpush_forbidden_total"); err != nil || n != 1 {
		t.Fatalf("%d counters, %v", n, err)
	}
	want := fmt.Sprintf(`
# HELP sallyport_push_webpush_forbidden_total Pushes not sent because their token leads where nothing may be pushed to, such as inside.
# TYPE sallyport_push_webpush_forbidden_total counter
sallyport_push_webpush_forbidden_total %d
`, refused)
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sallyport_push_webpush_forbidden_total"); err != nil {
		t.Error(err)
	}
}

// A name that is outside when it is looked at and inside when it is connected
// to: what is connected to is the address that was looked at, each time anew.
func TestP31_ANameThatIsReboundLeadsNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &strange{hosts: map[string][]string{"rebind.example": {"198.41.0.4"}}}
		c := s.client(t, nil, nil)
		send := func() push.Result {
			return c.Send(t.Context(), ring(push.Token{Value: "https://rebind.example/x"}))
		}
		if r := send(); r.Outcome != push.ProviderDown {
			t.Errorf("an address that does not answer: %s, %s", r.Outcome, r.Reason)
		}
		s.hosts["rebind.example"] = []string{"169.254.169.254", "10.0.0.1"}
		if r := send(); r.Outcome != push.Refused || !strings.Contains(r.Reason, "an address that is") {
			t.Errorf("after the change: %s, %s", r.Outcome, r.Reason)
		}
		s.hosts["rebind.example"] = []string{"10.0.0.1", "198.41.0.4"}
		send()
		for _, addr := range s.dialled {
			if addr != "198.41.0.4:443" {
				t.Errorf("dialled %s", addr)
			}
		}
		if s.asked != 3 || len(s.dialled) != 2 {
			t.Errorf("resolved %d times, dialled %q; want 3 and twice the address outside", s.asked, s.dialled)
		}
	})
}

// Without a network of the test's own, the socket itself is asked before it
// connects.
func TestP31_TheSocketIsLookedAtBeforeItConnects(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	key := newKeyFile(t)
	lies := func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("198.41.0.4")}, nil
	}
	err = webpush.Connect(t.Context(), webpush.Config{KeyFile: key, Subject: "mailto:a@b", Resolve: lies}, "https://localhost:"+port+"/x", l.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("a socket connected inside: %v", err)
	}
}

func TestAllowListsAreKept(t *testing.T) {
	s := &strange{hosts: map[string][]string{
		"updates.push.example": {"198.41.0.4"}, "evil.push.example": {"10.0.0.9"},
		"ntfy.corp.example": {"10.0.0.8"}, "meta.corp.example": {"169.254.169.254"},
	}}
	c := s.client(t, nil, func(cfg *webpush.Config) {
		cfg.Allow = []string{".push.example", "ntfy.corp.example:8443", "Meta.corp.example", "[fd00::5]", "192.168.0.7:444"}
	})
	for token, want := range map[string]string{
		"https://updates.push.example/x":      "198.41.0.4:443: no route",
		"https://ntfy.corp.example:8443/x":    "10.0.0.8:8443: no route", // inside, but the operator named it
		"https://[fd00::5]/x":                 "[fd00::5]:443: no route",
		"https://192.168.0.7:444/x":           "192.168.0.7:444: no route",
		"https://192.168.0.7/x":               "192.168.0.7:443 is not in allow",
		"https://ntfy.corp.example/x":         "ntfy.corp.example:443 is not in allow",
		"https://push.example/x":              "push.example:443 is not in allow",
		"https://updates.push.example:8443/x": "is not in allow",
		"https://updates.push.example.org/x":  "is not in allow",
		"https://198.41.0.4/x":                "is not in allow",
		"https://evil.push.example/x":         "an address that is private",
		"https://meta.corp.example/x":         "an address that is link-local",
	} {
		r := c.Send(t.Context(), ring(push.Token{Value: token}))
		if r.Outcome == push.Accepted || !strings.Contains(r.Reason, want) {
			t.Errorf("%s: %s, %q; want %q", token, r.Outcome, r.Reason, want)
		}
	}
	for _, entry := range []string{"", ".", "https://push.example", "push.example/x", "*.push.example", "push.example:0", "push.example:x"} {
		if err := webpush.CheckAllow(entry); err == nil {
			t.Errorf("allow %q is taken", entry)
		}
	}
}

// Both kinds of address are tried, and a refused one is no reason to wait for
// the others.
func TestEachKindOfAddressIsTried(t *testing.T) {
	s := &strange{hosts: map[string][]string{
		"push.example": {"2600::1", "2600::2", "2600::3", "2600::4", "2600::5", "198.41.0.4"},
	}}
	c := s.client(t, nil, nil)
	c.Send(t.Context(), ring(push.Token{Value: "https://push.example/x"}))
	want := "[2600::1]:443 198.41.0.4:443 [2600::2]:443 [2600::3]:443"
	if got := strings.Join(s.dialled, " "); got != want {
		t.Errorf("dialled %s, want %s", got, want)
	}
}

func FuzzToken(f *testing.F) {
	for _, s := range []string{"https://push.example/x", "https://[::1]:443/", "https://10.0.0.1", "https://a:b@c/", "https://%31%30.0.0.1/", "https://0x7f.1/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		origin, host, err := webpush.CheckToken(token)
		if err != nil {
			return
		}
		if len(token) > 1000 || !strings.HasPrefix(origin, "https://") || strings.ContainsAny(host, "/@ \r\n%") {
			t.Errorf("%q leads to %q at %q", token, host, origin)
		}
		if a, err := netip.ParseAddr(host); err == nil && (a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsMulticast()) {
			t.Errorf("%q leads inside", token)
		}
	})
}
