package xmpp

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/core"
	"sallyport/core/push/pushtest"
	"sallyport/edge"
	"sallyport/test/e2e"
	"sallyport/test/process"
	"sallyport/tunnel/unit"
)

// system is an edge and a core before an XMPP server. The core is one in this
// process, or one that can be killed.
type system struct {
	*e2e.Town
	t      testing.TB // at whose end all of it ends
	server *Server
	xmpps  string // HOST:PORT of direct TLS
	trust  *tls.Config
	core   *process.Process // nil while it runs in this process
	config string           // of it
	binary string
}

// startSystem runs edge and core until t ends.
func startSystem(t testing.TB, s *Server, change ...func(*core.Config)) *system {
	t.Helper()
	sys := &system{t: t, server: s, xmpps: loopback(t)}
	town, err := e2e.New(e2e.Config{
		Dir: t.TempDir(),
		Core: func(c *core.Config) {
			c.XMPP.Domains = []core.XMPPDomainConfig{{Name: s.Domain, Upstream: "xmpp+plain://" + s.Plain}}
			c.IM.AwayDelay = unit.Duration{}
			c.SIP.Domains = nil // this core serves XMPP alone
			c.SIP.Listen, c.SIP.Advertise = nil, ""
			for _, f := range change {
				f(c)
			}
		},
		Edge: func(c *edge.Config) {
			c.Public.XMPPS = sys.xmpps
			c.Limits.FlowsPerIP, c.Limits.NewFlowsPerIPPerSecond = c.Limits.MaxFlows, 1000
		},
	})
	must(t, err)
	sys.Town = town
	t.Cleanup(town.Close)
	must(t, town.Start(within(t, 30*time.Second)))
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(town.RootsFile())
	must(t, err)
	roots.AppendCertsFromPEM(pem)
	sys.trust = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	return sys
}

func loopback(t testing.TB) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(process.FreePort(t)))
}

// apart runs the core as a process of its own from now on.
func (s *system) apart(t testing.TB) {
	t.Helper()
	s.binary = filepath.Join(got[string](t)(build()), "sallyport-core")
	s.config = got[string](t)(s.WriteCoreConfig())
	s.Stop("core")
	s.startCore()
}

// build compiles both services once for all tests; TestMain removes them.
var build = sync.OnceValues(func() (string, error) {
	built.Store(true)
	dir, err := os.MkdirTemp("", "sallyport-bin")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", "sallyport/cmd/sallyport-edge", "sallyport/cmd/sallyport-core").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, err
})

// built says that build has run.
var built atomic.Bool

func (s *system) startCore() {
	s.t.Helper()
	s.core = process.Launch(s.t, process.Spec{Name: "sallyport-core", Path: s.binary, Args: []string{"-config", s.config}})
	s.core.Until(s.t, func() error { return s.get("/readyz", nil) })
}

// killCore ends the core as a power cut of its process does, and starts it anew.
func (s *system) killCore() {
	s.t.Helper()
	s.core.Kill()
	s.startCore()
}

// get fetches a page of the core's API.
func (s *system) get(path string, into any) error {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.Admin + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// outside is a user's client set to the edge: over "tls" or "wss".
func (s *system) outside(t testing.TB, user, transport string, change ...func(*ClientConfig)) *Client {
	t.Helper()
	set := func(c *ClientConfig) {
		c.TLS = s.trust
		if c.URL = "tls://" + s.xmpps; transport == "wss" {
			c.URL = "wss://" + s.HTTPS + "/ws"
		}
	}
	return s.server.client(t, user, "", append([]func(*ClientConfig){set}, change...)...)
}

// inside is a user's client directly at the server.
func (s *system) inside(t testing.TB, user string, change ...func(*ClientConfig)) *Client {
	t.Helper()
	return s.server.client(t, user, "tcp://"+s.server.Plain, change...)
}

// tokens are Apple's two of a user's device.
func tokens(user string) (voip, alert string) {
	return e2e.Token(user, "voip"), e2e.Token(user, "alert")
}

// enablePush gives the core both tokens of a user's device (XEP-0357), in the
// words of MongooseIM's clients.
func enablePush(t testing.TB, ctx context.Context, c *Client, user string) {
	t.Helper()
	voip, alert := tokens(user)
	for _, p := range []struct{ node, token, topic string }{{"alerts", alert, e2e.App}, {"calls", voip, e2e.App + ".voip"}} {
		form := "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>" +
			"<field var='service'><value>apns</value></field><field var='device_id'><value>" + p.token + "</value></field><field var='topic'><value>" + p.topic + "</value></field></x>"
		answer := got[*Stanza](t)(c.Ask(ctx, "set", "", "<enable xmlns='urn:xmpp:push:0' jid='push."+c.domain+"' node='"+p.node+"-"+user+"'>"+form+"</enable>"))
		if answer.Type() != "result" {
			t.Fatalf("push was not enabled: %s", answer.Raw)
		}
	}
}

// pushes are what Apple took for a token, of one event: "message", "call", "register".
func (s *system) pushes(token, event string) (all []pushtest.Push) {
	for _, p := range s.APNs.Accepted() {
		if p.Token == token && bytes.Contains(p.Payload, []byte(`"event":"`+event+`"`)) {
			all = append(all, p)
		}
	}
	return all
}

// pushed waits until Apple took a push for a token.
func (s *system) pushed(t testing.TB, token, event string) []pushtest.Push {
	t.Helper()
	var all []pushtest.Push
	if err := process.Poll(5*time.Second, func() error {
		if all = s.pushes(token, event); len(all) == 0 {
			return fmt.Errorf("no push %q", event)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// one wants that there is no second.
func one(t testing.TB, pushes []pushtest.Push) pushtest.Push {
	t.Helper()
	if len(pushes) != 1 {
		t.Fatalf("%d pushes, want one: %s", len(pushes), pushes[len(pushes)-1].Payload)
	}
	return pushes[0]
}

// apiClient is what the core's API says of an XMPP client.
type apiClient struct {
	AOR, Instance, State string
	Held                 int
}

// until waits until the core has one client of a user, in this state and with
// this many stanzas held.
func (s *system) until(t testing.TB, user, state string, held int) {
	t.Helper()
	if err := process.Poll(5*time.Second, func() error {
		var all []apiClient
		if err := s.get("/api/v1/clients?aor=xmpp:"+s.server.JID(user), &all); err != nil {
			return err
		}
		if len(all) != 1 || all[0].State != state || all[0].Held < held {
			return fmt.Errorf("%s: %+v, want one that is %s and holds %d", user, all, state, held)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// errNoOffer says that a stream's features lack something.
var errNoOffer = errors.New("not offered")

// offers checks that the stream offers XEP-0198 and XEP-0352.
func offers(c *Client, space, name string) error {
	if f := c.Features(); f.Child(space, name) == nil {
		return fmt.Errorf("%s %s: %w: %s", space, name, errNoOffer, f.Raw)
	}
	return nil
}
