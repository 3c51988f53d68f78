package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"

	"sallyport/core"
	"sallyport/edge"
)

// compose is what is looked at of compose.yaml, strictly: a key that is not
// here is a key nobody thought of.
type compose struct {
	Name     string
	Hardened map[string]any `yaml:"x-hardened"`
	Services map[string]struct {
		Restart     string
		ReadOnly    bool     `yaml:"read_only"`
		CapDrop     []string `yaml:"cap_drop"`
		SecurityOpt []string `yaml:"security_opt"`
		PIDs        int      `yaml:"pids_limit"`
		Logging     map[string]any
		Build       struct{ Context, Dockerfile string }
		User        string
		Sysctls     map[string]string
		Ulimits     map[string]any
		Grace       string   `yaml:"stop_grace_period"`
		DependsOn   []string `yaml:"depends_on"`
		Ports       []string
		Environment map[string]string
		Tmpfs       []string
		Networks    map[string]struct {
			Address string `yaml:"ipv4_address"`
		}
		Volumes []string
	}
	Networks map[string]struct {
		Internal bool
		IPAM     struct{ Config []struct{ Subnet string } }
	}
	Volumes map[string]any
}

func parse(t *testing.T) compose {
	t.Helper()
	var c compose
	d := yaml.NewDecoder(strings.NewReader(read(t, "compose.yaml")))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestComposeIsHardenedAndKeepsTheNetworksApart(t *testing.T) {
	c := parse(t)
	networks := map[string][]string{"edge": {"dmz", "outside"}, "core": {"dmz", "inside"}, "pbx": {"inside"}}
	ports := map[string][]string{"edge": {"443:443", "5061:5061"}}
	if len(c.Services) != len(networks) || !c.Networks["dmz"].Internal {
		t.Errorf("services %v, networks %v", c.Services, c.Networks)
	}
	for name, s := range c.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s is not hardened: %+v", name, s)
		}
		if name != "pbx" && s.User != "65532:65532" {
			t.Errorf("%s runs as %q", name, s.User)
		}
		var on []string
		for n := range s.Networks {
			on = append(on, n)
		}
		slices.Sort(on)
		if !slices.Equal(on, networks[name]) || !slices.Equal(s.Ports, ports[name]) {
			t.Errorf("%s is on %q and open at %q", name, on, s.Ports)
		}
		if _, err := os.Stat(filepath.Join(file(""), s.Build.Context, s.Build.Dockerfile)); err != nil {
			t.Error(err)
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			_, declared := c.Volumes[from]
			_, err := os.Stat(file(from))
			made := strings.HasPrefix(from, "./compose/ca/") // by the commands at its head
			if !declared && err != nil && !made {
				t.Errorf("%s mounts %s, which is nowhere", name, from)
			}
			if made && !strings.HasSuffix(v, ":ro") {
				t.Errorf("%s may write %s", name, from)
			}
		}
	}
	if c.Services["edge"].Sysctls["net.ipv4.ip_unprivileged_port_start"] != "0" {
		t.Error("the edge may not listen on 443")
	}
}

// load reads a config over its defaults as the services do.
func load(t *testing.T, name string, into interface{ Validate() error }) {
	t.Helper()
	d := toml.NewDecoder(strings.NewReader(read(t, name))).DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if err := into.Validate(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// The configs that Compose mounts are valid and fit its addresses.
func TestComposeConfigsFitTogether(t *testing.T) {
	c := parse(t)
	e, k := edge.DefaultConfig(), core.DefaultConfig()
	load(t, "compose/edge.toml", &e)
	load(t, "compose/core.toml", &k)
	at := func(service, network string) string { return c.Services[service].Networks[network].Address }
	for what, pair := range map[string][2]string{
		"the edge's tunnel listens in the DMZ":   {e.Tunnel.Listen, at("edge", "dmz") + ":7443"},
		"it takes this core":                     {strings.Join(e.Tunnel.Allow, " "), at("core", "dmz") + "/32"},
		"the core dials the edge by its name":    {strings.Join(k.Tunnel.Edges, " "), "edge:7443"},
		"the core listens inside":                {strings.Join(k.SIP.Listen, " "), "tcp:" + at("core", "inside") + ":5060"},
		"the core is found there":                {k.SIP.Advertise, at("core", "inside") + ":5060"},
		"the edge keeps what it fetched":         {e.TLS.ACMEDir, "/var/lib/sallyport/acme"},
		"the core keeps its store on its volume": {k.Store.Dir, "/var/lib/sallyport"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %q, want %q", what, pair[0], pair[1])
		}
	}
	pbx := at("pbx", "inside") + ":5060"
	if up, _ := k.SIP.Domains[0].Upstream.(string); up != "sip:"+pbx+";transport=tcp" {
		t.Errorf("upstream %v", k.SIP.Domains[0].Upstream)
	}
	if !strings.Contains(read(t, "compose/kamailio.cfg"), "\nlisten=tcp:"+pbx+"\n") {
		t.Error("the PBX listens elsewhere")
	}
}

func TestComposesPBXIsValid(t *testing.T) {
	kamailio := need(t, "kamailio")
	cmd := exec.Command(kamailio, "-c", "-f", file("compose/kamailio.cfg"))
	cmd.Env = append(os.Environ(), "ALICE_PASSWORD=a", "BOB_PASSWORD=b")
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("CRITICAL")) || bytes.Contains(out, []byte("ERROR")) {
		t.Errorf("kamailio -c: %v\n%s", err, out)
	}
}
