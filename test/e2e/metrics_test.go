package e2e

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/test/phone"
)

// metrics are the core's, by name and labels as /metrics writes them.
func (s *scene) metrics() map[string]string {
	s.t.Helper()
	all := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(s.http("GET", "/metrics", nil)))
	for lines.Scan() {
		if at := strings.LastIndexByte(lines.Text(), ' '); at > 0 && !strings.HasPrefix(lines.Text(), "#") {
			all[lines.Text()[:at]] = lines.Text()[at+1:]
		}
	}
	return all
}

func TestB24TheMetricsOfTheCoreAndTheEdge(t *testing.T) {
	at(t, PBXDomain, window(4*time.Second), func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		s.wakesFor(alice, bob, "bob", 1)
		s.sleeps(bob)
		call := s.call(alice, "bob")
		s.pushed(2)
		s.ends(call, 480) // the window is over
		s.pushed(3)
		s.APNs.Unregister(Token("bob", "voip"), time.Now())
		s.ends(s.call(alice, "bob"), 480)
		s.ends(s.call(alice, "bob", phone.Header{Name: "Route", Value: "<sip:192.0.2.1;lr>"}), 403)

		got := s.metrics()
		for name, want := range map[string]string{
			`sallyport_core_flows`:                                "1",
			`sallyport_core_devices`:                              "2",
			`sallyport_core_registered`:                           "1",
			`sallyport_registrations_total{outcome="accepted"}`:   "3",
			`sallyport_registrations_total{outcome="challenged"}`: "3",
			`sallyport_wake_total{outcome="registered"}`:          "1",
			`sallyport_wake_total{outcome="window_over"}`:         "1",
			`sallyport_wake_total{outcome="dead_token"}`:          "1",
			`sallyport_wake_seconds_count{provider="apns"}`:       "1",
			`sallyport_push_total{app="org.example.phone",channel="voip",outcome="accepted",provider="apns",reason="none"}`:           "2",
			`sallyport_push_total{app="org.example.phone",channel="voip",outcome="dead_token",provider="apns",reason="Unregistered"}`: "1",
			`sallyport_push_total{app="org.example.phone",channel="message",outcome="accepted",provider="apns",reason="none"}`:        "1",
			`sallyport_push_seconds_count{channel="voip",provider="apns"}`:                                                            "3",
			`sallyport_tunnel_sessions{role="core"}`:                                                                                  "1",
			`sallyport_tunnel_flows{role="core"}`:                                                                                     "1",
			`sallyport_sip_forbidden_total`:                                                                                           "1",
		} {
			if got[name] != want {
				s.t.Errorf("%s is %q, want %s", name, got[name], want)
			}
		}
		for name := range got {
			for _, secret := range []string{"alice", "bob", Token("bob", "voip")[:12]} {
				if strings.Contains(name, secret) {
					s.t.Errorf("%s names a user", name)
				}
			}
		}
		edge := `
# HELP sallyport_edge_flows Live client flows, by service and transport.
# TYPE sallyport_edge_flows gauge
sallyport_edge_flows{service="sip",transport="tls"} %TLS
sallyport_edge_flows{service="sip",transport="wss"} %WSS
sallyport_edge_flows{service="xmpp",transport="tls"} 0
sallyport_edge_flows{service="xmpp",transport="wss"} 0
# HELP sallyport_tunnel_sessions Sessions, those that wait for a connection included.
# TYPE sallyport_tunnel_sessions gauge
sallyport_tunnel_sessions{role="edge"} 1
`
		tls, wss := "1", "0" // alice's, over the other transport
		if s.transport == phone.TLS {
			tls, wss = wss, tls
		}
		edge = strings.NewReplacer("%TLS", tls, "%WSS", wss).Replace(edge)
		ok(s.t, testutil.GatherAndCompare(s.EdgeMetrics, strings.NewReader(edge), "sallyport_edge_flows", "sallyport_tunnel_sessions"))
	})
}
