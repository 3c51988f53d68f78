// Package edge composes and runs the service in the DMZ: it opens the public
// listeners and the tunnel's, lets clients in, and relays them to cores. Its
// Config is edge.toml. It knows no user and stores nothing.
package edge

import (
	"time"

	"sallyport/tunnel/unit"
)

// Config is edge.toml.
type Config struct {
	Public Public `toml:"public"`
	TLS    TLS    `toml:"tls"`
	Tunnel Tunnel `toml:"tunnel"`
	Limits Limits `toml:"limits"`
	Admin  Admin  `toml:"admin"`
	Log    Log    `toml:"log"`
}

// Public is what clients see.
type Public struct {
	// Hostname is the name clients are set to.
	Hostname string `toml:"hostname"`
	// HTTPS is the address for WebSocket on /ws, and for SIP and XMPP by ALPN; "" turns it off.
	HTTPS string `toml:"https"`
	// SIPS is the address for SIP over TLS; "" turns it off.
	SIPS string `toml:"sips"`
	// HTTP is the address of a redirect to https; "" turns it off.
	HTTP string `toml:"http"`
	// XMPPS is the address for XMPP over direct TLS (XEP-0368); "" turns it off.
	XMPPS string `toml:"xmpps"`
	// AdvertiseSIPS is the host:port clients see, when it is not hostname and the port listened on.
	AdvertiseSIPS string `toml:"advertise_sips"`
	// AdvertiseHTTPS is the same for https.
	AdvertiseHTTPS string `toml:"advertise_https"`
	// Origins are the Origin headers accepted on /ws; Host is not checked.
	Origins []string `toml:"origins"`
	// WSPing is the time between WebSocket pings to a client.
	WSPing unit.Duration `toml:"ws_ping"`
	// PongTimeout is how long the answer may take before the client is silent.
	PongTimeout unit.Duration `toml:"pong_timeout"`
	// FlowTimer is granted to clients that use RFC 5626.
	FlowTimer unit.Duration `toml:"flow_timer"`
	// TCPUserTimeout is how long sent bytes may stay unacknowledged.
	TCPUserTimeout unit.Duration `toml:"tcp_user_timeout"`
}

// TLS is where the public certificates come from: ACME, or files.
type TLS struct {
	// ACME fetches and renews a certificate for hostname.
	ACME bool `toml:"acme"`
	// ACMEEmail is given to the certificate authority.
	ACMEEmail string `toml:"acme_email"`
	// ACMEDirectory is the authority's directory URL; empty: Let's Encrypt.
	ACMEDirectory string `toml:"acme_directory"`
	// ACMEDir keeps account and certificates.
	ACMEDir string `toml:"acme_dir"`
	// Cert is a PEM file with the chain, reloaded when it changes.
	Cert string `toml:"cert"`
	// Key is the PEM file with its private key.
	Key string `toml:"key"`
	// Certificates are more of them, chosen by SNI.
	Certificates []Certificate `toml:"certificate"`
}

// Certificate is one more public certificate.
type Certificate struct {
	// Cert and Key are files, as in TLS.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// Names are the server names it answers to; empty: those in the certificate.
	Names []string `toml:"names"`
}

// Tunnel is where cores dial in.
type Tunnel struct {
	// Listen is an address of the inner interface, not the internet's.
	Listen string `toml:"listen"`
	// Allow are the CIDRs of the cores; empty: any with a core's certificate.
	Allow []string `toml:"allow"`
	// Identity is the file with certificate, key and CA in one bundle.
	Identity string `toml:"identity"`
}

// Limits bound what clients may take.
type Limits struct {
	// MaxFlows is the number of clients at once.
	MaxFlows int `toml:"max_flows"`
	// FlowsPerIP is the number of clients from one IPv4 address or IPv6 /64.
	FlowsPerIP int `toml:"flows_per_ip"`
	// NewFlowsPerSecond is the rate of newcomers from everywhere.
	NewFlowsPerSecond int `toml:"new_flows_per_second"`
	// NewFlowsPerIPPerSecond is the rate from one address, with a burst of ten times as many.
	NewFlowsPerIPPerSecond int `toml:"new_flows_per_ip_per_second"`
	// HandshakeTimeout is how long TLS, and then the WebSocket upgrade, may take.
	HandshakeTimeout unit.Duration `toml:"handshake_timeout"`
	// FirstMessageTimeout is how long a client may say nothing.
	FirstMessageTimeout unit.Duration `toml:"first_message_timeout"`
	// MaxMessage is the longest message of SIP.
	MaxMessage unit.Size `toml:"max_message"`
	// XMPPRate is how many bytes a second one client of XMPP may send, with a burst of four times as many; 0B: any.
	XMPPRate unit.Size `toml:"xmpp_rate"`
}

// Admin is the listener for operators.
type Admin struct {
	// Listen serves /metrics, /healthz and /readyz; "" turns it off.
	Listen string `toml:"listen"`
}

// Log is how the service logs.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `toml:"level"`
	// Format is json or text.
	Format string `toml:"format"`
}

// DefaultConfig is what holds where the file says nothing. Names, addresses of
// the tunnel and the identity have no default.
func DefaultConfig() Config {
	seconds := func(n time.Duration) unit.Duration { return unit.Duration{Duration: n * time.Second} }
	return Config{
		Public: Public{
			HTTPS: ":443", SIPS: ":5061", XMPPS: ":5223",
			Origins:        []string{"*"},
			WSPing:         seconds(25),
			PongTimeout:    seconds(10),
			FlowTimer:      seconds(120),
			TCPUserTimeout: seconds(20),
		},
		TLS: TLS{ACME: true, ACMEDir: "/var/lib/sallyport/acme"},
		Limits: Limits{
			MaxFlows: 100_000, FlowsPerIP: 1000,
			NewFlowsPerSecond: 500, NewFlowsPerIPPerSecond: 20,
			HandshakeTimeout: seconds(10), FirstMessageTimeout: seconds(10),
			MaxMessage: 64 << 10, XMPPRate: 1 << 20,
		},
		Admin: Admin{Listen: "127.0.0.1:9461"},
		Log:   Log{Level: "info", Format: "json"},
	}
}
