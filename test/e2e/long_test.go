package e2e

import (
	"flag"
	"testing"
)

// long lets those stories be told that take half a minute: `make hostile`.
var long = flag.Bool("long", false, "tell the long stories too")

// takesLong skips a story unless it was asked for.
func takesLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("takes long: make hostile")
	}
}
