package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/certs"
	"sallyport/certs/ca"
	"sallyport/core/push/pushtest"
	"sallyport/core/registrar"
)

// fakeNet is a network in which names resolve, ports are free and servers
// answer as the test says.
type fakeNet struct {
	hosts  map[string]bool
	dial   map[string]func() (net.Conn, error)
	listen map[string]error
}

func (n *fakeNet) LookupHost(_ context.Context, name string) ([]string, error) {
	if n.hosts[name] {
		return []string{"192.0.2.1"}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (n *fakeNet) LookupSRV(_ context.Context, service, proto, name string) ([]*net.SRV, error) {
	if service+proto+name == "siptcpsrv.example.com" {
		return []*net.SRV{{Target: "pbx.example.com.", Port: 5080}}, nil
	}
	return nil, errors.New("no such record")
}

func (n *fakeNet) Dial(_ context.Context, addr string) (net.Conn, error) {
	if dial := n.dial[addr]; dial != nil {
		return dial()
	}
	return nil, fmt.Errorf("dial tcp %s: connection refused", addr)
}

func (n *fakeNet) Listen(_ context.Context, _, addr string) (io.Closer, error) {
	return io.NopCloser(nil), n.listen[addr]
}

func open() (net.Conn, error) {
	a, b := net.Pipe()
	b.Close()
	return a, nil
}

// checkOutput runs a check and returns its lines and whether all is well.
func checkOutput(t *testing.T, n *fakeNet, check func(*checker)) (string, bool) {
	t.Helper()
	var out bytes.Buffer
	k := &checker{ctx: t.Context(), out: &out, net: n, now: time.Now()}
	check(k)
	err := k.verdict()
	return out.String(), err == nil
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bundles makes a CA and a bundle for each role.
func bundles(t *testing.T) (edge, core string) {
	t.Helper()
	dir := t.TempDir()
	if err := ca.Init(dir); err != nil {
		t.Fatal(err)
	}
	edge, err := ca.Issue(dir, certs.RoleEdge, "edge1.example.com", 397)
	if err != nil {
		t.Fatal(err)
	}
	if core, err = ca.Issue(dir, certs.RoleCore, "core1", 397); err != nil {
		t.Fatal(err)
	}
	return edge, core
}

func TestCheckEdgeSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	edgePEM, corePEM := bundles(t)
	dir := t.TempDir()
	config := func(identity, tlsPart string) string {
		return write(t, filepath.Join(dir, "edge.toml"), "[public]\nhostname = \"edge.example.com\"\nxmpps = \"\"\n[tunnel]\nlisten = \"10.1.0.4:7443\"\nidentity = \""+identity+"\"\n"+tlsPart)
	}
	authority := map[string]func() (net.Conn, error){"acme-v02.api.letsencrypt.org:443": open}
	acme := "[tls]\nacme_dir = \"" + filepath.Join(dir, "acme") + "\"\n"
	if err := os.Mkdir(filepath.Join(dir, "acme"), 0o700); err != nil {
		t.Fatal(err)
	}
	n := &fakeNet{hosts: map[string]bool{"edge.example.com": true}, dial: authority, listen: map[string]error{":443": syscall.EADDRINUSE}}
	out, well := checkOutput(t, n, func(k *checker) { k.edge(config(edgePEM, acme)) })
	if left, err := os.ReadDir(filepath.Join(dir, "acme")); err != nil || len(left) > 0 {
		t.Errorf("the check left %v in acme_dir, where it may run as another user", left)
	}
	if !well {
		t.Errorf("a good edge:\n%s", out)
	}
	for _, want := range []string{
		"ok    config", "ok    tunnel.identity              " + edgePEM + " is edge edge1.example.com, valid until",
		"ok    public.hostname              edge.example.com is 192.0.2.1",
		"ok    tls.acme                     a certificate for edge.example.com is fetched and renewed",
		"is its owner's alone, and holds no certificate yet", "ok    tls.acme_directory           acme-v02.api.letsencrypt.org:443 takes connections",
		"note  public.https                 tcp :443 is in use", "-> well if that is the service itself", "nothing is wrong, 1 note",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	n = &fakeNet{listen: map[string]error{"10.1.0.4:7443": syscall.EADDRNOTAVAIL, ":443": syscall.EACCES}}
	out, well = checkOutput(t, n, func(k *checker) {
		k.edge(config(corePEM, "[tls]\ncert = \"/nonexistent/c.pem\"\nkey = \"/nonexistent/k.pem\"\n"))
	})
	for _, want := range []string{
		"FAIL  tunnel.identity              " + corePEM + " is the bundle of core core1; here one of role edge is needed",
		"FAIL  public.hostname              edge.example.com does not resolve", "-> clients dial this name",
		"FAIL  tls.cert                     open /nonexistent/c.pem: no such file",
		"no certificate that could be loaded names edge.example.com",
		"FAIL  tunnel.listen                tcp 10.1.0.4:7443 is no address of this host",
		"note  public.https                 tcp :443 needs a privilege", "5 things wrong, 1 note",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	if well {
		t.Error("the check passed")
	}
}

func TestCheckEdgeSaysWhatKeepsACertificateFromBeingFetched(t *testing.T) {
	edgePEM, _ := bundles(t)
	dir := t.TempDir()
	config := func(https, acmeDir string) string {
		return write(t, filepath.Join(dir, "edge.toml"), "[public]\nhostname = \"edge.example.com\"\nhttps = \""+https+"\"\nxmpps = \"\"\n[tunnel]\nlisten = \"10.1.0.4:7443\"\nidentity = \""+edgePEM+"\"\n[tls]\nacme_dir = \""+acmeDir+"\"\n")
	}
	n := &fakeNet{hosts: map[string]bool{"edge.example.com": true}}
	shared := filepath.Join(dir, "shared")
	if err := os.Mkdir(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		https, dir string
		env        []string
		want       []string
	}{
		{":8443", shared, nil, []string{
			"note  tls.acme                     the authority calls edge.example.com on port 443 or 80, and neither is listened on",
			"FAIL  tls.acme_dir                 " + shared + ": is open to others", "chmod 700 " + shared,
			"FAIL  tls.acme_directory           acme-v02.api.letsencrypt.org:443 cannot be reached", "-> let this host reach it on that port, or set HTTPS_PROXY",
		}},
		{":443", filepath.Join(dir, "none"), []string{"HTTPS_PROXY=http://proxy:3128"}, []string{
			"none does not exist", "-> well under the systemd unit", "is asked through HTTPS_PROXY", "nothing is wrong",
		}},
	} {
		out, _ := checkOutput(t, n, func(k *checker) { k.env = test.env; k.edge(config(test.https, test.dir)) })
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("want %q in\n%s", want, out)
			}
		}
	}
}

func TestCheckNamesFaultsOfTheConfigWithTheirLines(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "core.toml"), "[wake]\nwindow = 13\n[tunel]\n")
	code, out, _ := sallyport(t, "", "check", "--core", file)
	for _, want := range []string{"FAIL  config                       " + file + ":2: wake.window: must be a duration", file + `:3: tunel: unknown key, perhaps "tunnel" is meant`, file + ": tunnel.edges: must name at least one edge"} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	if code != 1 {
		t.Errorf("exit %d", code)
	}
}

// server answers each dial with a TLS server of that bundle.
func server(t *testing.T, bundle string) func() (net.Conn, error) {
	t.Helper()
	b, err := certs.LoadBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	return func() (net.Conn, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		accepted, err := l.Accept()
		if err != nil {
			return nil, err
		}
		go func() {
			defer accepted.Close()
			s := tls.Server(accepted, b.ServerConfig(certs.RoleCore))
			if s.Handshake() == nil {
				s.Write([]byte("hello"))
				s.Read(make([]byte, 1))
			}
		}()
		return conn, nil
	}
}

func TestCheckCoreShakesHandsWithTheEdge(t *testing.T) {
	edgePEM, corePEM := bundles(t)
	foreignEdge, _ := bundles(t)
	core, err := certs.LoadBundle(corePEM)
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		edge, addr string
		want       string
	}{
		"good":       {edgePEM, "edge1.example.com:7443", "ok    tunnel.edges                 edge1.example.com:7443 is the edge it should be, and takes this core"},
		"foreign CA": {foreignEdge, "edge1.example.com:7443", "-> issue both bundles from one CA directory"},
		"other name": {edgePEM, "edge2.example.com:7443", "-> issue the edge's bundle for the very host that tunnel.edges names"},
		"a core":     {corePEM, "core1:7443", "-> the edge must have a bundle made with --edge, not --core"},
		"no name":    {edgePEM, "edge3.example.com:7443", "edge3.example.com does not resolve"},
		"no answer":  {edgePEM, "edge1.example.com:1", "-> let the firewall pass connections"},
	} {
		n := &fakeNet{
			hosts: map[string]bool{"edge1.example.com": true, "edge2.example.com": true, "core1": true},
			dial:  map[string]func() (net.Conn, error){test.addr: server(t, test.edge)},
		}
		if what == "no answer" {
			n.dial = nil
		}
		out, _ := checkOutput(t, n, func(k *checker) { k.tunnelTo(core, test.addr) })
		if !strings.Contains(out, test.want) {
			t.Errorf("%s: want %q in\n%s", what, test.want, out)
		}
	}
}

func TestCheckCoreLooksAtAllThatItNames(t *testing.T) {
	edgePEM, corePEM := bundles(t)
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	if err := registrar.AddUser(users, "demo.example", "alice", "secret"); err != nil {
		t.Fatal(err)
	}
	_, key, keyID, team, err := pushtest.NewAPNs(pushtest.APNsConfig{}).WriteFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	config := write(t, filepath.Join(dir, "core.toml"), fmt.Sprintf(`
[tunnel]
edges = ["edge1.example.com:7443"]
identity = %q
[sip]
listen = ["tcp:10.0.0.5:5060"]
[[sip.domain]]
name = "example.com"
upstream = ["sip:pbx.example.com:5060;transport=tcp", "sip:srv.example.com;transport=tcp", "sip:down.example.com:5060;transport=tcp"]
[[sip.domain]]
name = "demo.example"
users_file = %q
[[push.app]]
id = "org.example.phone"
provider = "apns"
team_id = %q
key_id = %q
key_file = %q
[store]
dir = %q
[admin]
token_file = "/nonexistent/token"
`, corePEM, users, team, keyID, key, dir))
	n := &fakeNet{
		hosts: map[string]bool{"edge1.example.com": true, "pbx.example.com": true, "down.example.com": true},
		dial: map[string]func() (net.Conn, error){
			"edge1.example.com:7443": server(t, edgePEM), "pbx.example.com:5060": open, "pbx.example.com:5080": open, "api.push.apple.com:443": open,
		},
	}
	out, well := checkOutput(t, n, func(k *checker) { k.core(config) })
	for _, want := range []string{
		"takes this core", "ok    sip.listen                   tcp 10.0.0.5:5060 is free",
		"pbx.example.com:5060 takes connections", "pbx.example.com:5080 takes connections",
		"FAIL  sip.domain example.com       down.example.com:5060 cannot be reached", "-> does the PBX listen on TCP there?",
		"ok    sip.domain demo.example", "org.example.phone: the key is good, and api.push.apple.com:443 takes connections",
		"ok    store.dir", "FAIL  admin.token_file             stat /nonexistent/token", "-> make one: openssl rand -hex 32", "2 things wrong",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	if well {
		t.Error("the check passed")
	}
}
