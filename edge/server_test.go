package edge_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/edge"
)

func TestSIPOverTLSReachesTheCore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, nil)
		p := w.mustCall(":5061", &tls.Config{})
		p.say(options(1))
		w.expect(options(1))
		p.hear(ok)
		i := (<-w.flows).Info()
		if i.Service != "sip" || i.Transport != "tls" || i.Remote.String() != "192.0.2.7:4711" || i.Public != "edge.example.com:5061" ||
			i.SNI != "edge.example.com" || i.TLSVersion != tls.VersionTLS13 || i.Since != time.Now() {
			t.Errorf("the core was told %+v", i)
		}
		_ = p.conn.Close()
		w.expect("closed client-closed")
	})
}

func TestSIPOverTLSByALPNOnHTTPS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, func(c *edge.Config) { c.Public.AdvertiseHTTPS = "sip.example.com:8443" })
		p := w.mustCall(":443", &tls.Config{NextProtos: []string{"sip"}})
		p.say(options(1))
		w.expect(options(1))
		p.hear(ok)
		if i := (<-w.flows).Info(); i.Transport != "tls" || i.Public != "sip.example.com:8443" {
			t.Errorf("the core was told %+v", i)
		}
	})
}

func TestHTTP2IsNeverOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, nil)
		p := w.mustCall(":443", &tls.Config{NextProtos: []string{"h2", "http/1.1"}})
		if got := p.conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
			t.Errorf("chose %q", got)
		}
		if _, err := w.call(":5061", &tls.Config{MaxVersion: tls.VersionTLS11}); err == nil {
			t.Error("TLS 1.1 was accepted")
		}
		if p, err := w.call(":5061", &tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{"sip/2"}}); err != nil {
			t.Errorf("TLS 1.2 with an ALPN of its own: %v", err)
		} else {
			p.say(options(1))
			p.hear(ok)
		}
	})
}

func TestWS1_SIPOverWebSocketReachesTheCore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, nil)
		ws, _, err := w.page(&websocket.DialOptions{Subprotocols: []string{"sip"}, HTTPHeader: http.Header{"Origin": {"https://app.example.com"}}})
		if err != nil {
			t.Fatal(err)
		}
		if ws.Subprotocol() != "sip" {
			t.Errorf("subprotocol %q", ws.Subprotocol())
		}
		_ = ws.Write(t.Context(), websocket.MessageText, []byte(options(1)))
		w.expect(options(1))
		if typ, p, err := ws.Read(t.Context()); string(p) != ok || typ != websocket.MessageText {
			t.Errorf("read %q, %v", p, err)
		}
		i := (<-w.flows).Info()
		if i.Transport != "wss" || i.Host != "edge.example.com" || i.Path != "/ws" || i.Origin != "https://app.example.com" || i.Subprotocol != "sip" || i.Public != "edge.example.com:443" {
			t.Errorf("the core was told %+v", i)
		}
		_ = ws.Close(websocket.StatusNormalClosure, "")
		w.expect("closed client-closed")
	})
}

func TestWebSocketClientThatStopsAnsweringIsSilentThenGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, nil)
		ws, _, err := w.page(&websocket.DialOptions{Subprotocols: []string{"sip"}})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_ = ws.Write(t.Context(), websocket.MessageText, []byte(options(1)))
		w.expect(options(1), "silent") // it reads no more, so it pongs no more
		if d := time.Since(start); d != 35*time.Second {
			t.Errorf("silent after %v", d)
		}
		w.expect("closed keepalive-lost")
		if d := time.Since(start); d != 60*time.Second {
			t.Errorf("gone after %v", d)
		}
		_ = ws.CloseNow()
	})
}

func TestSilentTLSClientHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, nil)
		for range 50 { // says nothing, not even hello
			c, err := w.dial(t.Context(), "192.0.2.9:1", ":5061")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		start := time.Now()
		p := w.mustCall(":5061", &tls.Config{})
		p.say(options(1))
		p.hear(ok)
		if d := time.Since(start); d != 0 {
			t.Errorf("another client waited %v", d)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		w.count("sallyport_edge_refused_total", "reason", "handshake_timeout", 50)
	})
}

func TestClientThatSaysNothingAfterTheHandshakeIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, func(c *edge.Config) { c.Limits.FirstMessageTimeout.Duration = 7 * time.Second })
		start := time.Now()
		p := w.mustCall(":5061", &tls.Config{})
		<-p.over
		if d := time.Since(start); d != 7*time.Second {
			t.Errorf("closed after %v", d)
		}
		w.count("sallyport_edge_closed_total", "reason", "policy", 1)
	})
}

func TestLimitsAreEnforcedAndCounted(t *testing.T) {
	cases := map[string]struct {
		set  func(*edge.Limits)
		want float64 // of ten clients
	}{
		"max_flows":        {func(l *edge.Limits) { l.MaxFlows = 3 }, 7},
		"flows_per_ip":     {func(l *edge.Limits) { l.FlowsPerIP = 4 }, 6},
		"new_flows":        {func(l *edge.Limits) { l.NewFlowsPerSecond = 2 }, 8},
		"new_flows_per_ip": {func(l *edge.Limits) { l.NewFlowsPerIPPerSecond = 1; l.NewFlowsPerSecond = 1000 }, 10},
	}
	for reason, tc := range cases {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := found(t, true, func(c *edge.Config) { tc.set(&c.Limits) })
				n := 10
				if reason == "new_flows_per_ip" {
					n = 20 // the burst is ten
				}
				in := 0
				for range n {
					if p, err := w.call(":5061", &tls.Config{}); err == nil {
						p.say(options(1))
						p.hear(ok)
						in++
					}
				}
				if in != n-int(tc.want) {
					t.Errorf("%d of %d got in", in, n)
				}
				w.count("sallyport_edge_refused_total", "reason", reason, tc.want)
				w.count("sallyport_edge_flows", "service", "sip", float64(in))
			})
		})
	}
}

func TestWithoutACoreClientsAreSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, false, nil)
		_, resp, err := w.page(&websocket.DialOptions{Subprotocols: []string{"sip"}})
		if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("upgrade: %v, %v", resp, err)
		}
		start := time.Now()
		p := w.mustCall(":5061", &tls.Config{})
		<-p.over
		if d := time.Since(start); d != 0 {
			t.Errorf("TLS closed after %v", d)
		}
		w.count("sallyport_edge_refused_total", "reason", "no_core", 2)
		if !w.server.Ready() {
			t.Error("an edge is ready when its listeners are open")
		}
	})
}

func TestPagesFromElsewhereAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, func(c *edge.Config) { c.Public.Origins = []string{"https://app.example.com"} })
		_, resp, err := w.page(&websocket.DialOptions{Subprotocols: []string{"sip"}, HTTPHeader: http.Header{"Origin": {"https://evil.example"}}})
		if err == nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%v, %v", resp, err)
		}
		w.count("sallyport_edge_refused_total", "reason", "origin", 1)
		_, resp, err = w.page(&websocket.DialOptions{Subprotocols: []string{"soap"}})
		if err == nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%v, %v", resp, err)
		}
		w.count("sallyport_edge_refused_total", "reason", "subprotocol", 1)
	})
}

func TestPlainHTTPLeadsToHTTPS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, func(c *edge.Config) { c.Public.HTTP = ":80" })
		c, err := w.dial(t.Context(), "192.0.2.7:1", ":80")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
		got, _ := io.ReadAll(c)
		if !strings.Contains(string(got), "Location: https://edge.example.com/ws\r\n") {
			t.Errorf("answer %q", got)
		}
	})
}

func TestDrainClosesTheDoorSaysGoodbyeAndHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, nil)
		ws, _, err := w.page(&websocket.DialOptions{Subprotocols: []string{"sip"}})
		if err != nil {
			t.Fatal(err)
		}
		_ = ws.Write(t.Context(), websocket.MessageText, []byte(options(1)))
		_, _, _ = ws.Read(t.Context())
		p := w.mustCall(":5061", &tls.Config{})
		p.say(options(2))
		p.hear(ok)
		w.expect(options(1), options(2))
		w.server.Drain()
		_, _, err = ws.Read(t.Context())
		if websocket.CloseStatus(err) != websocket.StatusServiceRestart {
			t.Errorf("the page was told %v", err)
		}
		<-p.over
		w.expect("closed drain", "closed drain")
		if w.server.Ready() {
			t.Error("still ready")
		}
		if _, err := w.call(":5061", &tls.Config{}); err == nil {
			t.Error("the door is still open")
		}
		if err := <-w.done; err != nil {
			t.Error(err)
		}
		w.done <- nil // for the clean-up
	})
}

func TestReadyIsLoggedOnceAndAddressesAreRedacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, nil)
		p := w.mustCall(":5061", &tls.Config{})
		p.say(options(1))
		p.hear(ok)
		w.stop()
		<-w.done
		w.done <- nil
		logs := w.logs.String()
		if strings.Count(logs, "msg=ready") != 1 {
			t.Errorf("logs:\n%s", logs)
		}
		if strings.Contains(logs, "192.0.2.7") || !strings.Contains(logs, "remote=192.0.2.x") {
			t.Errorf("the client's address is logged whole:\n%s", logs)
		}
	})
}

func TestReloadServesTheNewCertificateAndConnectionsLiveOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, nil)
		old := w.mustCall(":5061", &tls.Config{})
		writePublic(t, w.dir, 2)
		if err := w.server.Reload(); err != nil {
			t.Fatal(err)
		}
		p := w.mustCall(":5061", &tls.Config{})
		if n := p.conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); n != 2 {
			t.Errorf("serves certificate %d", n)
		}
		old.say(options(1))
		old.hear(ok)
	})
}

func TestTunnelIsOpenToAllowedNetworksOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, func(c *edge.Config) { c.Tunnel.Allow = []string{"10.2.0.0/16"} })
		if len(w.server.Sessions()) != 1 {
			t.Error("the core was not let in")
		}
		c, err := w.dial(t.Context(), "10.3.0.5:1", "10.1.0.4:7443")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("a stranger's connection: %v", err)
		}
	})
}

func TestListenerThatCannotOpenIsNamed(t *testing.T) {
	cfg, _ := prepare(t)
	cfg.Public.SIPS = ":443" // taken by https
	w := &world{places: make(map[string]*place)}
	s, err := edge.New(cfg, edge.Deps{Listen: w.listen})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background()); err == nil || !strings.HasPrefix(err.Error(), "public.sips: ") {
		t.Errorf("error %v", err)
	}
}

func TestNewRefusesWhatItCannotServe(t *testing.T) {
	cases := map[string]struct {
		change func(c *edge.Config, dir string)
		want   string
	}{
		"ACME without a place": {func(c *edge.Config, dir string) {
			c.TLS.ACME, c.TLS.Cert, c.TLS.Key, c.TLS.ACMEDir = true, "", "", dir+"/public.pem"
		}, "tls.acme_dir: mkdir"},
		"no such file":    {func(c *edge.Config, _ string) { c.TLS.Cert = "/nowhere.pem" }, "/nowhere.pem"},
		"a core's bundle": {func(c *edge.Config, dir string) { c.Tunnel.Identity = dir + "/core1.pem" }, "is the bundle of a core, not of an edge"},
		"a faulty config": {func(c *edge.Config, _ string) { c.Limits.MaxFlows = 0 }, "limits.max_flows: "},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			cfg, dir := prepare(t)
			tc.change(&cfg, dir)
			if _, err := edge.New(cfg, edge.Deps{}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// count checks one series of a metric.
func (w *town) count(name, label, value string, want float64) {
	w.t.Helper()
	synctest.Wait()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	got := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == label && l.GetValue() == value {
					got += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	if got != want {
		w.t.Errorf("%s{%s=%q} is %v, want %v", name, label, value, got, want)
	}
	if problems, err := testutil.GatherAndLint(w.registry); err != nil || len(problems) > 0 {
		w.t.Errorf("lint: %v %v", problems, err)
	}
}
