package boot_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"sallyport/cmd/internal/boot"
	"sallyport/core"
	"sallyport/edge"
	"sallyport/tunnel/unit"
)

// deploy is the file of that name in deploy/.
func deploy(name string) string { return filepath.Join("..", "..", "..", "deploy", name) }

// What the file shows is what holds without it, except names, addresses and
// paths.
func TestDeployEdgeTomlShowsTheDefaults(t *testing.T) {
	got, err := boot.Load(edge.DefaultConfig, deploy("edge.toml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := edge.DefaultConfig()
	want.Public.Hostname = "edge.example.com"
	want.TLS.ACMEEmail = "ops@example.com"
	want.Tunnel.Listen = "10.1.0.4:7443"
	want.Tunnel.Identity = "/etc/sallyport/edge1.pem"
	if diff := cmp.Diff(want, got, emptyIsNil); diff != "" {
		t.Errorf("deploy/edge.toml (-defaults +file):\n%s", diff)
	}
	everyKey(t, "edge.toml", want)
}

func TestDeployCoreTomlShowsTheDefaults(t *testing.T) {
	got, err := boot.Load(core.DefaultConfig, deploy("core.toml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := core.DefaultConfig()
	want.Tunnel = core.TunnelConfig{Edges: []string{"edge1.example.com:7443"}, Identity: "/etc/sallyport/core1.pem"}
	want.SIP.Listen, want.SIP.Advertise = []string{"tcp:10.0.0.5:5060", "udp:10.0.0.5:5060"}, "10.0.0.5:5060"
	want.SIP.Domains = []core.DomainConfig{
		{Name: "example.com", Upstream: "sip:pbx.example.com:5060;transport=tcp", UpstreamExpires: unit.Duration{Duration: 24 * 3600e9}},
		{Name: "demo.example", UsersFile: "/etc/sallyport/users"},
	}
	want.XMPP.Domains = []core.XMPPDomainConfig{{Name: "example.com", Upstream: "xmpp://xmpp.example.com:5222"}}
	want.Push.Apps = []core.AppConfig{
		{ID: "org.example.phone", Provider: "apns", TeamID: "ABCDE12345", KeyID: "KEY1234567", KeyFile: "/etc/sallyport/apns.p8", Environment: "production"},
		{ID: "org.example.phone", Provider: "fcm", Privacy: "wake", ServiceAccount: "/etc/sallyport/fcm.json"},
		{ID: "org.example.web", Provider: "webpush", VAPIDKey: "/etc/sallyport/vapid.pem", Subject: "mailto:ops@example.com"},
	}
	want.Push.Quiet = []core.QuietConfig{{AOR: "*", From: "22:00", To: "07:00", Timezone: "UTC", Messages: "hold", Calls: "missed"}}
	if diff := cmp.Diff(want, got, emptyIsNil); diff != "" {
		t.Errorf("deploy/core.toml (-defaults +file):\n%s", diff)
	}
	everyKey(t, "core.toml", want)
}

// emptyIsNil compares an empty list as no list.
var emptyIsNil = cmp.Transformer("list", func(s []string) string { return strings.Join(s, "\n") })

// everyKey checks that a file shows each key that a config has.
func everyKey(t *testing.T, name string, cfg any) {
	t.Helper()
	all, err := toml.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := os.ReadFile(deploy(name))
	if err != nil {
		t.Fatal(err)
	}
	for _, missing := range missing("", tree(t, all), tree(t, shown)) {
		t.Errorf("deploy/%s does not show %s", name, missing)
	}
}

func tree(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := toml.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func missing(path string, want, got map[string]any) (keys []string) {
	for k, v := range want {
		shown, ok := got[k]
		switch sub, isTable := v.(map[string]any); {
		case !ok && (path != "tls" || k != "certificate"): // shown as a comment
			keys = append(keys, path+"."+k)
		case ok && isTable:
			shownTable, _ := shown.(map[string]any)
			keys = append(keys, missing(k, sub, shownTable)...)
		}
	}
	slices.Sort(keys)
	return keys
}
