package interop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/certs"
	"sallyport/certs/ca"
	"sallyport/core/push/pushtest"
	"sallyport/test/phone"
	"sallyport/test/process"
)

// App is the bundle id that the clients of a System are woken through.
const App = "org.example.phone"

// binariesBuilt says that build has run, and left a directory to remove.
var binariesBuilt atomic.Bool

// build compiles the two services once for all tests.
var build = sync.OnceValues(func() (string, error) {
	binariesBuilt.Store(true)
	dir, err := os.MkdirTemp("", "sallyport-bin")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", "sallyport/cmd/sallyport-edge", "sallyport/cmd/sallyport-core").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

// System is both services as an operator runs them: from config files, in
// processes of their own, with a Kamailio as PBX and Apple's push service simulated.
type System struct {
	PBX  *Kamailio
	APNs *pushtest.APNs
	Edge *process.Process
	Core *process.Process

	// SIPS and HTTPS are the HOST:PORT that clients are set to, Admin is the
	// core's API, CAFile what clients trust.
	SIPS, HTTPS, Admin, CAFile string

	t         testing.TB
	bin, dir  string
	lines     string // at the end of the core's config
	edgeAdmin string
	public    string // the bundle of the edge's public certificate
	teamID    string
	roots     *x509.CertPool
}

const edgeConfig = `[public]
hostname = "%[6]s"
https = "%[1]s"
sips = "%[2]s"
xmpps = ""
[tls]
acme = false
cert = "%[7]s"
key = "%[7]s"
[tunnel]
listen = "%[4]s"
identity = "%[3]s"
[admin]
listen = "%[5]s"
[log]
format = "text"
level = "debug"
`

const coreConfig = `[tunnel]
edges = ["%[1]s"]
identity = "%[2]s"
[sip]
listen = ["tcp:%[3]s"]
advertise = "%[3]s"
[[sip.domain]]
name = "%[4]s"
upstream = "sip:%[5]s;transport=tcp"
path = %[13]t
[[push.app]]
id = "` + App + `"
provider = "apns"
team_id = "%[6]s"
key_id = "%[7]s"
key_file = "%[8]s"
endpoint = "https://%[9]s"
ca_file = "%[10]s"
[store]
dir = "%[11]s"
[admin]
listen = "%[12]s"
[log]
format = "text"
level = "debug"
`

// StartSystem runs everything until t ends and returns when clients can
// register. Clients are set to 127.0.0.1.
func StartSystem(t testing.TB) *System { return StartSystemAs(t, "127.0.0.1") }

// StartSystemAs is [StartSystem] with a name of loopback that clients are set
// to and the edge's certificate is for.
func StartSystemAs(t testing.TB, hostname string) *System {
	t.Helper()
	return startSystem(t, hostname, KamailioConfig{}, "")
}

// StartSystemWithPath is [StartSystem] with path = true, and a PBX that reaches
// its phones that way.
func StartSystemWithPath(t testing.TB) *System {
	t.Helper()
	return startSystem(t, "127.0.0.1", KamailioConfig{Path: true}, "")
}

// StartSystemWithPresence is [StartSystem] with a PBX that is a presence server,
// and a core that has its lines after all others of its config.
func StartSystemWithPresence(t testing.TB, lines string) *System {
	t.Helper()
	return startSystem(t, "127.0.0.1", KamailioConfig{Presence: true}, lines)
}

// startSystem runs the services and a PBX. lines end the core's config.
func startSystem(t testing.TB, hostname string, pbx KamailioConfig, lines string) *System {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	s := &System{t: t, bin: bin, dir: process.TempDir(t), lines: lines}
	pbx.Users = Users
	s.PBX = StartKamailio(t, pbx)
	addr := func() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(process.FreePort(t))) }
	s.SIPS, s.HTTPS, s.Admin, s.edgeAdmin = addr(), addr(), addr(), addr()
	apns := s.startAPNs()
	s.writeConfigs(hostname, addr(), addr(), apns, pbx.Path)
	s.SIPS, s.HTTPS = rename(s.SIPS, hostname), rename(s.HTTPS, hostname)
	s.Edge = s.service("edge")
	s.StartCore()
	return s
}

// rename gives a HOST:PORT another host.
func rename(addr, host string) string {
	_, port, _ := net.SplitHostPort(addr)
	return net.JoinHostPort(host, port)
}

// startAPNs runs the simulated push service and returns its address.
func (s *System) startAPNs() string {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.APNs = pushtest.NewAPNs(pushtest.APNsConfig{AnyToken: true})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.APNs.Serve(ctx, l) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	return l.Addr().String()
}

func (s *System) writeConfigs(hostname, tunnel, sip, apns string, path bool) {
	s.t.Helper()
	caDir := filepath.Join(s.dir, "ca")
	var edge, core string
	err := ca.Init(caDir)
	if err == nil {
		edge, err = ca.Issue(caDir, certs.RoleEdge, "127.0.0.1", 30)
	}
	if s.public = edge; err == nil && hostname != "127.0.0.1" {
		s.public, err = ca.Issue(caDir, certs.RoleEdge, hostname, 30)
	}
	if err == nil {
		core, err = ca.Issue(caDir, certs.RoleCore, "core1", 30)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.CAFile = filepath.Join(caDir, ca.CertFile)
	text, err := os.ReadFile(s.CAFile)
	if err != nil {
		s.t.Fatal(err)
	}
	s.roots = x509.NewCertPool()
	s.roots.AppendCertsFromPEM(text)
	pushCA, key, keyID, teamID, err := s.APNs.WriteFiles(filepath.Join(s.dir, "apns"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.teamID = teamID
	process.WriteFile(s.t, filepath.Join(s.dir, "edge.toml"), fmt.Sprintf(edgeConfig, s.HTTPS, s.SIPS, edge, tunnel, s.edgeAdmin, hostname, s.public))
	process.WriteFile(s.t, filepath.Join(s.dir, "core.toml"), fmt.Sprintf(coreConfig,
		tunnel, core, sip, s.PBX.Domain, s.PBX.Addr, teamID, keyID, key, apns, pushCA, filepath.Join(s.dir, "store"), s.Admin, path)+s.lines)
}

// service starts "edge" or "core" from its config file.
func (s *System) service(name string) *process.Process {
	s.t.Helper()
	return process.Launch(s.t, process.Spec{
		Name: "sallyport-" + name, Path: filepath.Join(s.bin, "sallyport-"+name),
		Args: []string{"-config", filepath.Join(s.dir, name+".toml")}, Dir: s.dir,
	})
}

// StartCore starts the core, again after [Process.Kill], and waits until both
// services are ready.
func (s *System) StartCore() {
	s.t.Helper()
	s.Core = s.service("core")
	s.Core.Until(s.t, func() error { return get("http://"+s.Admin+"/readyz", nil) })
	s.Edge.Until(s.t, func() error { return get("http://"+s.edgeAdmin+"/readyz", nil) })
}

// get fetches url, and decodes its JSON into a value unless that is nil.
func get(url string, into any) error {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// Client is what the core's API says of one client.
type Client struct {
	AOR, Instance, State string
	Tokens               []struct{ Kind, Provider, App, State string }
}

// Clients returns what the core knows of an AOR.
func (s *System) Clients(aor string) []Client {
	s.t.Helper()
	var all []Client
	if err := get("http://"+s.Admin+"/api/v1/clients?aor="+strings.TrimPrefix(aor, "sip:"), &all); err != nil {
		s.t.Fatal(err)
	}
	return all
}

// Phone is a scripted phone outside, set to the edge.
func (s *System) Phone(user string, transport phone.Transport) *phone.Phone {
	return s.phone(phone.Config{AOR: "sip:" + user + "@" + s.PBX.Domain, Transport: transport})
}

// phone sets a phone with an AOR and a transport to the edge.
func (s *System) phone(cfg phone.Config) *phone.Phone {
	if cfg.Addr = s.SIPS; cfg.Transport == phone.WSS {
		cfg.Addr = s.HTTPS
	}
	user, _, _ := strings.Cut(strings.TrimPrefix(cfg.AOR, "sip:"), "@")
	cfg.Public, cfg.Password, cfg.TLS = cfg.Addr, Users[user], s.trust()
	p := phone.New(cfg)
	s.t.Cleanup(p.Close)
	return p
}

// Push is a pair of device tokens for Apple's two channels.
func (s *System) Push() phone.Push {
	return phone.Linphone(s.teamID+"."+App, pushtest.NewToken(), pushtest.NewToken(), false)
}

// Baresip is a baresip outside, set to the edge.
func (s *System) Baresip(user, dir string) *Baresip {
	return StartBaresip(s.t, BaresipConfig{
		AOR: "sip:" + user + "@" + s.PBX.Domain, Password: Users[user], Addr: s.SIPS, CAFile: s.CAFile, Dir: dir,
	})
}

// Linphone is a Linphone outside, set to the edge, with a pair of tokens. The
// system must be known by a name ([StartSystemAs]).
func (s *System) Linphone(user, dir string) *Linphone {
	return StartLinphone(s.t, LinphoneConfig{
		AOR: "sip:" + user + "@" + s.PBX.Domain, Password: Users[user], Addr: s.SIPS, CAFile: s.CAFile, Dir: dir,
		Push: "pn-provider=apns;pn-param=" + s.teamID + "." + App + ".voip&remote;pn-prid=" + pushtest.NewToken() + ":voip&" + pushtest.NewToken() + ":remote",
	})
}

// WebPhone is how a web page outside is set to the edge. push may be nil.
func (s *System) WebPhone(user string, push map[string]string) WebPhoneConfig {
	return WebPhoneConfig{
		URL: "wss://" + s.HTTPS + "/ws", AOR: "sip:" + user + "@" + s.PBX.Domain, Password: Users[user], CAFile: s.CAFile, Push: push,
	}
}

// JsSIP is a web page outside that uses JsSIP. push may be nil.
func (s *System) JsSIP(user string, push map[string]string) *WebPhone {
	return StartJsSIP(s.t, s.WebPhone(user, push))
}

// SIPJS is a web page outside that uses SIP.js. push may be nil.
func (s *System) SIPJS(user string, push map[string]string) *WebPhone {
	return StartSIPJS(s.t, s.WebPhone(user, push))
}

// WebPush are a page's URI parameters for pushes, with a token of Apple's.
func (s *System) WebPush() map[string]string {
	return map[string]string{
		"pn-provider": "apns", "pn-param": s.teamID + "." + App + ".voip", "pn-prid": pushtest.NewToken(),
	}
}

// Pushed waits until Apple has accepted n pushes in all and returns the last
// one's payload.
func (s *System) Pushed(n int) map[string]any {
	s.t.Helper()
	if err := process.Poll(10*time.Second, func() error {
		if got := len(s.APNs.Accepted()); got < n {
			return fmt.Errorf("%d pushes, want %d", got, n)
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	var payload map[string]any
	if err := json.Unmarshal(s.APNs.Accepted()[n-1].Payload, &payload); err != nil {
		s.t.Fatal(err)
	}
	return payload
}

// Users are those of the PBX, with their passwords.
var Users = map[string]string{"alice": "secret-a", "bob": "secret-b"}

// trust is TLS as a client outside has it.
func (s *System) trust() *tls.Config {
	return &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12}
}

// untilAsleep waits until the core has heard that an AOR's flow ended.
func (s *System) untilAsleep(aor string) {
	s.t.Helper()
	s.until(aor, "suspended", "gone")
}

// until waits until the core has all clients of an AOR in one of some states.
func (s *System) until(aor string, states ...string) {
	s.t.Helper()
	if err := process.Poll(5*time.Second, func() error {
		for _, c := range s.Clients(aor) {
			if !slices.Contains(states, c.State) {
				return fmt.Errorf("%s is %s, not %s", aor, c.State, strings.Join(states, " or "))
			}
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
}
