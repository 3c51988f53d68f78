package core

import (
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// good is a config without faults.
func good() Config {
	c := DefaultConfig()
	c.Tunnel = TunnelConfig{Edges: []string{"edge1.example.com:7443"}, Identity: "core1.pem"}
	c.SIP = SIPConfig{
		Listen: []string{"tcp:10.0.0.5:5060", "udp:10.0.0.5:5060"}, Advertise: "10.0.0.5:5060",
		Domains: []DomainConfig{{Name: "example.com", Upstream: "sip:pbx.example.com:5060;transport=tcp"}},
	}
	return c
}

func TestAGoodConfigHasNoFaults(t *testing.T) {
	c := good()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// xmpp sets a domain of XMPP.
func xmpp(name, upstream string) func(*Config) {
	return func(c *Config) { c.XMPP.Domains = []XMPPDomainConfig{{Name: name, Upstream: upstream}} }
}

func TestACoreMayServeXMPPAlone(t *testing.T) {
	c := good()
	c.SIP.Domains, c.SIP.Listen, c.SIP.Advertise = nil, nil, ""
	xmpp("example.com", "xmpps://xmpp.example.com")(&c)
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestEachFaultNamesItsKey(t *testing.T) {
	for want, spoil := range map[string]func(*Config){
		"tunnel.edges":           func(c *Config) { c.Tunnel.Edges = nil },
		`tunnel.edges: "edge1" `: func(c *Config) { c.Tunnel.Edges = []string{"edge1"} },
		`push.quiet[0].aor: must be an AOR, @domain, or * for all (got "bob")`: func(c *Config) {
			c.Push.Quiet = []QuietConfig{{AOR: "bob", Timezone: "UTC"}}
		},
		`push.quiet[0].vip: must be AORs or @domains (got "@")`: func(c *Config) {
			c.Push.Quiet = []QuietConfig{{AOR: "*", Timezone: "UTC", VIP: []string{"tel:+49301", "x@y", "@"}}}
		},
		"tunnel.identity":                         func(c *Config) { c.Tunnel.Identity = "" },
		"sip.listen":                              func(c *Config) { c.SIP.Listen = []string{"sctp:10.0.0.5:5061"} },
		"sip.cert":                                func(c *Config) { c.SIP.Listen = []string{"tls:10.0.0.5:5061"} },
		"sip.key":                                 func(c *Config) { c.SIP.Cert = "core.pem" },
		"sip.probe":                               func(c *Config) { c.SIP.Probe = seconds(1) },
		"sip.domain[0].upstream_key":              func(c *Config) { c.SIP.Domains[0].UpstreamCert = "core.pem" },
		"sip.listen: must say":                    func(c *Config) { c.SIP.Listen = nil },
		"sip.advertise":                           func(c *Config) { c.SIP.Advertise = "pbx" },
		"sip.trusted":                             func(c *Config) { c.SIP.Trusted = []string{"10.0.0.0"} },
		"sip.domain:":                             func(c *Config) { c.SIP.Domains = nil },
		"sip.domain[0].name":                      func(c *Config) { c.SIP.Domains[0].Name = "" },
		"sip.domain[0]: needs":                    func(c *Config) { c.SIP.Domains[0].Upstream = nil },
		"sip.domain[0]: upstream and users_file":  func(c *Config) { c.SIP.Domains[0].UsersFile = "users" },
		"sip.domain[0].upstream: ":                func(c *Config) { c.SIP.Domains[0].Upstream = "http://pbx" },
		"sip.domain[0].upstream: must":            func(c *Config) { c.SIP.Domains[0].Upstream = int64(5060) },
		"sip.domain[0].upstream_expires":          func(c *Config) { c.SIP.Domains[0].UpstreamExpires = seconds(5) },
		"sip.domain[1].name":                      func(c *Config) { c.SIP.Domains = append(c.SIP.Domains, c.SIP.Domains[0]) },
		"wake.window: must be 1s to 60s":          func(c *Config) { c.Wake.Window = seconds(61) },
		"wake.ringback":                           func(c *Config) { c.Wake.Ringback = "182" },
		"wake.ringback_after":                     func(c *Config) { c.Wake.RingbackAfter = seconds(-1) },
		"wake.device_keep":                        func(c *Config) { c.Wake.DeviceKeep = seconds(0) },
		"wake.reconnect_grace":                    func(c *Config) { c.Wake.ReconnectGrace = seconds(100) },
		"push.proxy":                              func(c *Config) { c.Push.Proxy = "proxy" },
		"push.app[0].provider":                    func(c *Config) { c.Push.Apps = []AppConfig{{ID: "a", Provider: "apple"}} },
		"push.app[0].key_file":                    func(c *Config) { c.Push.Apps = []AppConfig{{ID: "a", Provider: "apns", TeamID: "T", KeyID: "K"}} },
		"push.app[0].service_account":             func(c *Config) { c.Push.Apps = []AppConfig{{ID: "a", Provider: "fcm"}} },
		"push.app[0].vapid_key":                   func(c *Config) { c.Push.Apps = []AppConfig{{ID: "a", Provider: "webpush"}} },
		"push.app[0].subject":                     func(c *Config) { c.Push.Apps = []AppConfig{{ID: "a", Provider: "webpush", VAPIDKey: "k"}} },
		"push.app[0].privacy":                     func(c *Config) { c.Push.Apps = []AppConfig{{ID: "a", Provider: "fcm", Privacy: "some"}} },
		"push.keep":                               func(c *Config) { c.Push.Keep = seconds(0) },
		"push.per_minute":                         func(c *Config) { c.Push.PerMinute = 0 },
		"push.refresh_margin":                     func(c *Config) { c.Push.RefreshMargin = seconds(60) },
		"push.quiet[0].aor":                       func(c *Config) { c.Push.Quiet = []QuietConfig{{}} },
		"push.quiet[0].from":                      func(c *Config) { c.Push.Quiet = []QuietConfig{{AOR: "*", From: "10pm", To: "07:00"}} },
		"push.quiet[0].days":                      func(c *Config) { c.Push.Quiet = []QuietConfig{{AOR: "*", Days: []string{"Monday"}}} },
		"push.quiet[0].timezone":                  func(c *Config) { c.Push.Quiet = []QuietConfig{{AOR: "*", Timezone: "Berlin"}} },
		"push.quiet[0].messages":                  func(c *Config) { c.Push.Quiet = []QuietConfig{{AOR: "*", Messages: "drop"}} },
		"push.quiet[0].calls":                     func(c *Config) { c.Push.Quiet = []QuietConfig{{AOR: "*", Calls: "no"}} },
		"store.key_file":                          func(c *Config) { c.Store.NATS = []string{"nats://a"} },
		"store.dir":                               func(c *Config) { c.Store.Dir = "" },
		"store.replicas":                          func(c *Config) { c.Store.Replicas = 0 },
		"im.per_aor":                              func(c *Config) { c.IM.PerAOR = 999 },
		"im.per_device":                           func(c *Config) { c.IM.PerDevice = 0 },
		"im.keep":                                 func(c *Config) { c.IM.Keep = seconds(0) },
		"im.per_session: ":                        func(c *Config) { c.IM.PerSession = 0 },
		"im.per_session_bytes":                    func(c *Config) { c.IM.PerSessionBytes = 1000 },
		"im.suspended_presence":                   func(c *Config) { c.IM.SuspendedPresence = "dnd" },
		"im.away_delay":                           func(c *Config) { c.IM.AwayDelay = seconds(-1) },
		"im.resume: ":                             func(c *Config) { c.IM.Resume = "both" },
		"im.resume_max":                           func(c *Config) { c.IM.ResumeMax = seconds(1) },
		"im.desktop_active":                       func(c *Config) { c.IM.DesktopActive = seconds(-1) },
		"xmpp.domain[0].name":                     xmpp("alice@example.com", "xmpp://a"),
		"xmpp.domain[0].upstream: must begin":     xmpp("example.com", "http://a"),
		"xmpp.domain[0].upstream: \"xmpp://\"":    xmpp("example.com", "xmpp://"),
		"xmpp.domain[0].upstream: \"xmpp://a/b\"": xmpp("example.com", "xmpp://a/b"),
		"xmpp.domain[0].upstream: \"wss://u@a\"":  xmpp("example.com", "wss://u@a"),
		"xmpp.domain[1].name": func(c *Config) {
			xmpp("example.com", "xmpp://a:5222")(c)
			c.XMPP.Domains = append(c.XMPP.Domains, XMPPDomainConfig{Name: "Example.com", Upstream: "ws://a:5280/ws"})
		},
		"admin.token_file": func(c *Config) { c.Admin.Listen = "0.0.0.0:9462" },
	} {
		t.Run(want, func(t *testing.T) {
			c := good()
			spoil(&c)
			err := c.Validate()
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want a fault of %q", err, want)
			}
		})
	}
}

func TestAllFaultsAreSaidAtOnce(t *testing.T) {
	var c Config
	text := c.Validate().Error()
	for _, key := range []string{"tunnel.edges", "tunnel.identity", "sip.domain", "wake.window", "store.dir"} {
		if !strings.Contains(text, key) {
			t.Errorf("%s is not named in:\n%s", key, text)
		}
	}
}

func TestUpstreamMayBeOneOrAList(t *testing.T) {
	for text, want := range map[string]int{
		`upstream = "sip:a"`:            1,
		`upstream = ["sip:a", "sip:b"]`: 2,
		`upstream = []`:                 0,
	} {
		var d DomainConfig
		if err := toml.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		if uris, err := d.Upstreams(); err != nil || len(uris) != want {
			t.Errorf("%s: %q, %v", text, uris, err)
		}
	}
}

func TestTheRingbackMayComeAfterTheWindow(t *testing.T) {
	c := good()
	c.Wake.Window, c.Wake.RingbackAfter = seconds(3), seconds(5)
	if err := c.Validate(); err != nil {
		t.Errorf("beyond the window it never fires and is no error: %v", err)
	}
}

func TestBeforeItRunsACoreIsNotReadyAndCanBeDrained(t *testing.T) {
	s, err := New(good(), Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Ready() {
		t.Error("ready before Run")
	}
	s.Drain()
	if err := s.Reload(good()); err != nil {
		t.Error(err)
	}
}

func TestWhatRunCannotOpenIsNamedByItsKey(t *testing.T) {
	c := good()
	c.Tunnel.Identity = t.TempDir() + "/missing.pem"
	s, err := New(c, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "tunnel.identity: ") || !strings.Contains(err.Error(), "missing.pem") {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run did not return")
	}
}

func TestWhatIsNotBuiltYetIsSaid(t *testing.T) {
	c := good()
	c.XMPP.Domains = []XMPPDomainConfig{{Name: "example.com", Upstream: "xmpp://xmpp.example.com:5222"}}
	c.Push.Apps = []AppConfig{
		{ID: "org.example.phone", Provider: "fcm", ServiceAccount: "fcm.json"}, {ID: "org.example.phone", Provider: "hms"},
	}
	if text := strings.Join(c.unbuilt(), "\n"); text != "push.app[1]: devices of provider hms cannot be woken" {
		t.Errorf("got:\n%s", text)
	}
}
