package core

import "sallyport/tunnel/unit"

// Config is core.toml. Zero values are not defaults: start from [DefaultConfig].
type Config struct {
	Tunnel TunnelConfig `toml:"tunnel"`
	SIP    SIPConfig    `toml:"sip"`
	XMPP   XMPPConfig   `toml:"xmpp"`
	Wake   WakeConfig   `toml:"wake"`
	IM     IMConfig     `toml:"im"`
	Push   PushConfig   `toml:"push"`
	Store  StoreConfig  `toml:"store"`
	Admin  AdminConfig  `toml:"admin"`
	Log    LogConfig    `toml:"log"`
}

// TunnelConfig says which edges to dial, and as whom.
type TunnelConfig struct {
	// Edges are host:port of each edge's tunnel listener. The host is the name
	// in that edge's certificate.
	Edges []string `toml:"edges"`
	// Identity is this core's bundle: certificate, key and CA.
	Identity string `toml:"identity"`
}

// SIPConfig says where PBXs reach the core and what it serves.
type SIPConfig struct {
	// Listen are "tcp:host:port", "udp:host:port" and "tls:host:port".
	Listen []string `toml:"listen"`
	// Cert and Key are PEM files that tls: listeners show.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// Advertise is the host:port that PBXs are told; empty: the first listener.
	Advertise string `toml:"advertise"`
	// Trusted are the CIDRs that may send requests; empty: what the upstreams
	// resolve to.
	Trusted []string `toml:"trusted"`
	// Probe is how often each server of a PBX is asked by OPTIONS whether it is
	// well; 0 is never.
	Probe   unit.Duration  `toml:"probe"`
	Domains []DomainConfig `toml:"domain"`
}

// DomainConfig is one SIP domain: with a PBX behind it, or stand-alone.
type DomainConfig struct {
	Name string `toml:"name"`
	// Upstream is the PBX's SIP URI, or a list of them, tried in order.
	Upstream any `toml:"upstream,omitempty"`
	// UpstreamCA is a PEM file that replaces the system's roots, for TLS.
	UpstreamCA string `toml:"upstream_ca,omitempty"`
	// UpstreamCert and UpstreamKey are PEM files that a PBX is shown which asks
	// for a certificate.
	UpstreamCert string `toml:"upstream_cert,omitempty"`
	UpstreamKey  string `toml:"upstream_key,omitempty"`
	// UsersFile makes the domain stand-alone.
	UsersFile string `toml:"users_file,omitempty"`
	// Path gives the PBX a Path (RFC 3327) instead of a contact of ours.
	Path bool `toml:"path"`
	// UpstreamExpires is asked of the PBX, so that a sleeping phone stays
	// registered.
	UpstreamExpires unit.Duration `toml:"upstream_expires"`
}

// XMPPConfig lists the XMPP domains.
type XMPPConfig struct {
	Domains []XMPPDomainConfig `toml:"domain"`
}

// XMPPDomainConfig is one XMPP domain and its server.
type XMPPDomainConfig struct {
	Name string `toml:"name"`
	// Upstream is the server's URL: xmpp: (STARTTLS), xmpps: (TLS from the
	// start), xmpp+plain: (no TLS), ws: or wss: (RFC 7395).
	Upstream string `toml:"upstream"`
	// CAFile is a PEM file that replaces the system's roots.
	CAFile string `toml:"ca_file"`
	// SharedCert says that the edge shows the server's own certificate, so that
	// channel binding by tls-server-end-point may pass.
	SharedCert bool `toml:"shared_cert"`
}

// WakeConfig says how sleeping devices are waited for.
type WakeConfig struct {
	Window               unit.Duration `toml:"window"`         // 1 s to 60 s
	Ringback             string        `toml:"ringback"`       // none, 180 or 183
	RingbackAfter        unit.Duration `toml:"ringback_after"` // beyond the window it never fires
	DeviceKeep           unit.Duration `toml:"device_keep"`
	ReconnectGrace       unit.Duration `toml:"reconnect_grace"`
	CallPushInForeground bool          `toml:"call_push_in_foreground"`
}

// IMConfig says how long, and how many, messages are kept for their reader, and
// what is done for a client that is away.
type IMConfig struct {
	Keep unit.Duration `toml:"keep"`
	// PerAOR and PerDevice bound the messages held; one more is refused.
	PerAOR    int `toml:"per_aor"`
	PerDevice int `toml:"per_device"`
	// PerSession and PerSessionBytes bound what an XMPP session holds: stanzas,
	// and their bytes.
	PerSession      int       `toml:"per_session"`
	PerSessionBytes unit.Size `toml:"per_session_bytes"`
	// SuspendedPresence is what others see while a client is away: away, keep
	// (its own) or unavailable.
	SuspendedPresence string `toml:"suspended_presence"`
	// AwayDelay is how long others are not told that a flow was lost.
	AwayDelay unit.Duration `toml:"away_delay"`
	// Resume is how a client comes back to a session whose server is still
	// there: probe (only its login is checked) or swap (the server resumes, too).
	Resume string `toml:"resume"`
	// ResumeMax is how long a session waits for its client.
	ResumeMax unit.Duration `toml:"resume_max"`
	// DesktopActive spares a device the push of a message while another client of
	// its user was active within this time; 0 pushes always.
	DesktopActive unit.Duration `toml:"desktop_active"`
	// CorrectUndercount corrects XMPP clients that do not count the answers to
	// their own requests, and would get the last stanzas twice.
	CorrectUndercount bool `toml:"correct_undercount"`
}

// StoreConfig says where bindings live.
type StoreConfig struct {
	Dir      string   `toml:"dir"`
	NATS     []string `toml:"nats"`
	Replicas int      `toml:"replicas"`
	// KeyFile holds the key that encrypts push tokens at rest; empty: token.key in
	// Dir, made when it is missing. Cores on one cluster share it.
	KeyFile string `toml:"key_file"`
}

// AdminConfig is the API's listener.
type AdminConfig struct {
	Listen        string `toml:"listen"`
	TokenFile     string `toml:"token_file"`
	MetricsListen string `toml:"metrics_listen"`
}

// LogConfig says what is logged and how.
type LogConfig struct {
	Level  string `toml:"level"`
	Format string `toml:"format"` // json or text
	// Redact hides addresses, AORs and tokens.
	Redact bool `toml:"redact"`
}

// DefaultConfig returns the defaults of the contract.
func DefaultConfig() Config {
	return Config{
		SIP: SIPConfig{Probe: seconds(30)},
		Wake: WakeConfig{
			Window: seconds(13), Ringback: "none", RingbackAfter: seconds(5),
			DeviceKeep: seconds(720 * 3600), ReconnectGrace: seconds(5), CallPushInForeground: true,
		},
		IM: IMConfig{
			Keep: seconds(168 * 3600), PerAOR: 2000, PerDevice: 1000, PerSession: 2000, PerSessionBytes: 4 << 20,
			SuspendedPresence: "away", AwayDelay: seconds(10), Resume: "probe", ResumeMax: seconds(24 * 3600), DesktopActive: seconds(300),
		},
		Push:  PushConfig{Enabled: true, Keep: seconds(24 * 3600), PerMinute: 20, RefreshMargin: seconds(600)},
		Store: StoreConfig{Dir: "/var/lib/sallyport", Replicas: 1},
		Admin: AdminConfig{Listen: "127.0.0.1:9462"},
		Log:   LogConfig{Level: "info", Format: "json", Redact: true},
	}
}
