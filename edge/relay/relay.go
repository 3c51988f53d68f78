// Package relay moves messages between client flows and the tunnel, with the
// credit of each held against the other: what the core has no room for is not
// read from the client, and what the client does not take is not given back
// to the core. It does not know TLS, and parses nothing.
package relay

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"sallyport/edge/admission"
	"sallyport/edge/flow"
	"sallyport/edge/transport"
	"sallyport/tunnel"
)

// Tunnel is the way inside, as the relay needs it. A [tunnel.Acceptor] is one.
type Tunnel interface {
	// Serves reports whether a core is there that takes flows of a service.
	Serves(service string) bool
	// Open opens a flow, or fails with [tunnel.ErrNoCore].
	Open(info tunnel.Info, h tunnel.Handler) (*tunnel.Flow, error)
}

// Config is what a Relay connects.
type Config struct {
	Tunnel Tunnel
	Flows  *flow.Table
	// LostSpread is the time over which clients are sent away, each after a
	// random part of it, when the tunnel was lost for good. Default 30 s.
	LostSpread time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Relay joins clients to cores.
type Relay struct {
	cfg Config
}

// New returns a Relay. It starts nothing.
func New(cfg Config) *Relay {
	if cfg.LostSpread <= 0 {
		cfg.LostSpread = 30 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Relay{cfg: cfg}
}

// Ready reports whether a client of that kind that comes now has somebody to
// talk to.
func (r *Relay) Ready(k flow.Kind) bool { return r.cfg.Tunnel.Serves(k.Service()) }

// Serve takes a client in and returns. Its kind says what the core is told of
// service and transport. The pass is given back when the client
// is gone. The core hears of the client with its first message, so that who
// only connects costs it nothing.
func (r *Relay) Serve(conn transport.Conn, kind flow.Kind, info tunnel.Info, pass *admission.Pass) {
	info.Service, info.Transport = kind.Service(), kind.Transport()
	info.Host, info.Path = clip(info.Host, 300), clip(info.Path, 1024)
	info.Origin, info.SNI = clip(info.Origin, 512), clip(info.SNI, 255)
	l := &link{relay: r, client: r.cfg.Flows.New(conn, kind), pass: pass, info: &info}
	l.client.Start(l)
}

// away is how long a client may stay after the tunnel was lost.
func (r *Relay) away() time.Duration { return rand.N(r.cfg.LostSpread) }

// clip makes text of a client fit to be carried on: printable ASCII, since
// none of these fields has more, up to n bytes.
func clip(s string, n int) string {
	b := []byte(s[:min(len(s), n)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// codeOf says in the tunnel why a client ended.
var codeOf = map[transport.Reason]tunnel.CloseCode{
	transport.ClientClosed:  tunnel.CloseClient,
	transport.ClientReset:   tunnel.CloseReset,
	transport.KeepaliveLost: tunnel.CloseKeepalive,
	transport.SlowConsumer:  tunnel.CloseSlowConsumer,
	transport.Protocol:      tunnel.CloseProtocol,
	transport.Policy:        tunnel.ClosePolicy,
	transport.TryLater:      tunnel.ClosePolicy,
	transport.Leaving:       tunnel.CloseDrain,
	transport.Kicked:        tunnel.CloseKicked,
}

// reasonOf says to a client why the core ended its flow.
var reasonOf = map[tunnel.CloseCode]transport.Reason{
	tunnel.CloseClient:       transport.ClientClosed, // in order: the client's goodbye was answered inside
	tunnel.CloseSlowConsumer: transport.SlowConsumer,
	tunnel.CloseProtocol:     transport.Protocol,
	tunnel.ClosePolicy:       transport.Policy,
	tunnel.CloseDrain:        transport.Leaving,
	tunnel.CloseTunnelLost:   transport.Leaving,
	tunnel.CloseKicked:       transport.Kicked,
	tunnel.CloseReconnect:    transport.Kicked,
}
