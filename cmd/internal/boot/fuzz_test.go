package boot

import (
	"testing"

	"sallyport/core"
)

// A config file may be garbage; it must be refused with a line, not a crash.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"[tunnel]\nedges = [\"a:1\"]\n", "[[sip.domain]]\nname = 'x'\nupstream = [\"a\", 1]\n", "wake = { window = \"13s\" }\n",
		"[push.app]\nx.y = 1", "\"\" = 1", "[sip.domain.name]\na = 1", "a.b.c = [[{}]]", "[wake]\nwindow = 1979-05-27\n", "\xef\xbb\xbf[log]\nlevel=\"\"\"\nx\"\"\"",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := core.DefaultConfig()
		for _, fault := range decode(data, &cfg) {
			if fault.text == "" {
				t.Errorf("a fault without a reason: %+v", fault)
			}
			if fault.line == 0 && fault.key != "" {
				t.Errorf("a fault without a line: %+v", fault)
			}
		}
	})
}
