package jetstream

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func TestABrokenDiskIsNoFullQueue(t *testing.T) {
	for text, want := range map[string]bool{
		"maximum messages exceeded":             true,
		"maximum bytes exceeded":                true,
		"maximum messages per subject exceeded": true,
		"write 1.blk: no space left on device":  false,
		"write 1.blk: input/output error":       false,
	} {
		if got := full(&jetstream.APIError{Code: 503, ErrorCode: errStoreFailed, Description: text}); got != want {
			t.Errorf("%q: full is %v, want %v", text, got, want)
		}
	}
}
