// Command sallyport-core is the inside half of Sallyport: it dials the edges,
// routes SIP to the PBX and wakes phones by push. See docs/deploy-core.md.
package main

import (
	"sallyport/cmd/internal/boot"
	"sallyport/core"
)

// version is set by the linker.
var version = "dev"

func main() {
	boot.Main(boot.Program[core.Config]{
		Name: "core", Version: version, Defaults: core.DefaultConfig,
		New: func(cfg core.Config, d boot.Deps) (boot.Server, error) {
			return core.New(cfg, core.Deps{Log: d.Log, Registry: d.Registry, Version: d.Version})
		},
		Log: func(c *core.Config) boot.Log {
			return boot.Log{Level: c.Log.Level, Format: c.Log.Format, Redact: c.Log.Redact}
		},
	})
}
