// Command sallyport-edge is the service in the DMZ: it ends TLS and WebSocket
// for remote clients and carries their signalling through the tunnel.
package main

import (
	"sallyport/cmd/internal/boot"
	"sallyport/edge"
)

// version is set when a release is built.
var version = "dev"

func main() {
	boot.Main(boot.Program[edge.Config]{
		Name: "edge", Version: version, Defaults: edge.DefaultConfig,
		New: func(cfg edge.Config, deps boot.Deps) (boot.Server, error) {
			return edge.New(cfg, edge.Deps{Log: deps.Log, Registry: deps.Registry, Version: deps.Version})
		},
		Log: func(cfg *edge.Config) boot.Log {
			return boot.Log{Level: cfg.Log.Level, Format: cfg.Log.Format, Redact: true}
		},
		Admin: func(cfg *edge.Config) string { return cfg.Admin.Listen },
	})
}
