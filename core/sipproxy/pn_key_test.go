package sipproxy

import (
	"log/slog"
	"strings"
	"testing"
)

// A key that is none is said, once a device, without the key.
func TestAKeyThatIsNoneCountsAsAbsentAndIsSaidOnce(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		var log strings.Builder
		w.proxy.log = slog.New(slog.NewTextHandler(&log, nil))
		const bad = "not-a-point-on-the-curve"
		for range 3 {
			ph := w.phone("alice", "tls").connects()
			ph.push += ";pn-key=" + bad + ";pn-auth=BTBZMqHH6r4Tts7J_aSIgg"
			ph.registers()
			if d, _ := w.loc.Device(ph.id()); len(d.Tokens) != 2 || d.Tokens[0].Key+d.Tokens[0].Auth != "" {
				t.Errorf("tokens %v", d.Tokens)
			}
			ph.sleeps()
		}
		if said := log.String(); strings.Count(said, "pn-key") != 1 || strings.Contains(said, bad) || strings.Contains(said, "BTBZ") {
			t.Errorf("the log says %s", said)
		}
	})
}
