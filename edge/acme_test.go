package edge_test

import (
	"crypto/tls"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/certs"
	"sallyport/edge"
)

func TestB26_FlowsStayOpenOverARenewal(t *testing.T) {
	h := settle(t, 15*time.Second)
	h.moveIn()
	h.hearsBoth("certificate fetched", "msg=ready")
	old := h.mustVisit(":443") // no ALPN: it is no SIP, but it is shown the certificate
	first := old.conn.ConnectionState().PeerCertificates[0]
	p := h.answered()
	h.hears("certificate fetched") // the next, before the first has ended
	if second := h.mustVisit(":5061").conn.ConnectionState().PeerCertificates[0]; second.Equal(first) {
		t.Error("the renewed certificate is not served")
	}
	p.say(options(2))
	p.hear(ok)
	if n := h.metric("sallyport_edge_acme_attempts_total", "outcome", "issued"); n != 2 {
		t.Errorf("%v issued", n)
	}
	if end := h.metric("sallyport_edge_certificate_expiry_timestamp_seconds", "name", hostname, "source", "acme"); end <= float64(first.NotAfter.Unix()) {
		t.Errorf("the metric says %v, the first ended %v", end, first.NotAfter.Unix())
	}
}

func TestHTTP01WhereAnotherHoldsPort443(t *testing.T) {
	h := settle(t, time.Hour)
	h.cfg.Public.HTTP = ":80"
	h.doors[":443"].Close() // the authority finds nobody there
	h.doors[":443"] = loopback(t)
	h.moveIn()
	h.hears("msg=ready")
	h.mustVisit(":443")
	for _, path := range []string{"/ws", "/.well-known/acme-challenge/x"} {
		if got := h.get(path); !strings.Contains(got, "\r\nLocation: https://"+hostname) {
			t.Errorf("%s was answered %q", path, got)
		}
	}
}

// At the first start there is nothing to serve: the listeners are open, since
// the authority must come in, and all who look can see what is wrong.
func TestWithoutACertificateTheEdgeSaysSoEverywhere(t *testing.T) {
	h := settle(t, time.Hour)
	h.ca.Leave()
	h.moveIn()
	h.hears("listeners open, but clients are refused until there is a certificate")
	h.hears("certificate not fetched", "was not reached", "remedy=", "let this host reach")
	if h.server.Ready() {
		t.Error("ready, though clients are refused")
	}
	if notes := h.server.Notes(); len(notes) != 1 || !strings.HasPrefix(notes[0], "no certificate for "+hostname+": ") {
		t.Errorf("notes %q", notes)
	}
	if _, err := h.visit(":5061"); err == nil {
		t.Error("a client was served")
	}
	if _, err := h.visit(":443", certs.ACMEProtocol); err == nil {
		t.Error("who looks for a challenge was answered when none is under way")
	}
	if n := h.metric("sallyport_edge_acme_attempts_total", "outcome", "unreached"); n < 1 {
		t.Errorf("%v attempts in the metric", n)
	}
	h.ca.Return()
	if err := h.server.Reload(); err != nil { // an operator's SIGHUP
		t.Error(err)
	}
	h.hears("certificate fetched")
	h.hears("msg=ready")
	h.answered()
	if !h.server.Ready() || len(h.server.Notes()) > 0 {
		t.Errorf("ready %v, notes %q", h.server.Ready(), h.server.Notes())
	}
	h.leave()
	if n := h.metric("sallyport_edge_refused_total", "reason", "no_certificate"); n != 1 {
		t.Errorf("%v refused for want of a certificate", n)
	}
}

func TestARefusedOrderIsToldToOperators(t *testing.T) {
	h := settle(t, time.Hour)
	h.ca.Block(hostname)
	h.moveIn()
	h.hears("certificate not fetched", "forbidden by policy", "correct public.hostname")
	if n := h.metric("sallyport_edge_acme_attempts_total", "outcome", "refused"); n != 1 {
		t.Errorf("%v refused", n)
	}
}

// Of what a certificate authority offers and what clients offer, neither gets
// the other's certificate or protocol.
func TestOnlyTheAuthoritysHelloGetsTheChallenge(t *testing.T) {
	h := settle(t, time.Hour)
	h.moveIn()
	h.hears("msg=ready")
	p, err := h.visit(":443", certs.ACMEProtocol, "sip")
	if err != nil || p.conn.ConnectionState().NegotiatedProtocol != "sip" {
		t.Fatalf("a client that offers both: %v", err)
	}
	if _, err := h.visit(":443", certs.ACMEProtocol, "h2"); err == nil {
		t.Error("acme-tls/1 was negotiated beside another protocol")
	}
	if p, err := h.visit(":5061", certs.ACMEProtocol); err != nil || p.conn.ConnectionState().NegotiatedProtocol != "" {
		t.Errorf("sips knows no challenge: %v", err)
	}
}

// From 14 days before its end, whoever was to renew it.
func TestACertificateThatNearsItsEndIsToldInLogMetricAndStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, func(c *edge.Config) {
			dir := filepath.Dir(c.TLS.Cert)
			writePublicUntil(t, dir, 7, time.Now().Add(13*24*time.Hour+time.Hour))
		})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		const text = "public.pem ends in 13 days, on "
		if logs := w.logs.String(); strings.Count(logs, "certificate ends soon") != 1 || !strings.Contains(logs, text) {
			t.Errorf("logs:\n%s", logs)
		}
		if notes := w.server.Notes(); len(notes) != 1 || !strings.Contains(notes[0], text) {
			t.Errorf("notes %q", notes)
		}
		if got := w.core.Sessions(); len(got) != 1 || len(got[0].Notices) != 1 || !strings.Contains(got[0].Notices[0], text) {
			t.Errorf("the core's status: %+v", got)
		}
		end := float64(time.Now().Add(13*24*time.Hour + time.Hour - 2*time.Second).Unix())
		w.count("sallyport_edge_certificate_expiry_timestamp_seconds", "source", "file", end)
		writePublic(t, w.dir, 8)
		if err := w.server.Reload(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := w.core.Sessions(); len(got[0].Notices) != 0 {
			t.Errorf("renewed, and the core still says %q", got[0].Notices)
		}
		time.Sleep(24 * time.Hour)
		if logs := w.logs.String(); strings.Count(logs, "certificate ends soon") != 1 {
			t.Errorf("renewed, and still complained of:\n%s", logs)
		}
	})
}

// Files that are named win over ACME, whose default is on.
func TestFilesTakeThePlaceOfACME(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true, func(c *edge.Config) { c.TLS.ACME = true })
		p := w.mustCall(":443", &tls.Config{NextProtos: []string{"sip"}})
		if n := p.conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); n != 1 {
			t.Errorf("serves certificate %d", n)
		}
		if _, err := w.call(":443", &tls.Config{NextProtos: []string{certs.ACMEProtocol}}); err == nil {
			t.Error("acme-tls/1 is negotiated, and nothing is fetched")
		}
		synctest.Wait() // until the edge has said what it refused
		if logs := w.logs.String(); !strings.Contains(logs, "nothing is fetched by ACME: tls.cert names a file") {
			t.Errorf("logs:\n%s", logs)
		}
	})
}
