package upstream

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestConfigFaultsNameTheirKeyAndRemedy(t *testing.T) {
	err := Config{
		Listen: []string{"tcp:10.0.0.5:5060", "10.0.0.5:5060", "tls:10.0.0.5:5061", "udp:10.0.0.5"},
		Upstreams: map[string][]string{
			"a": {"sips:pbx;transport=udp"}, "b": {"tel:+1"}, "c": {"pbx:5060"}, "d": {}, "e": {"sip:pbx;transport=sctp"}, "f": {"sip:ok"},
		},
	}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`sip.listen: "10.0.0.5:5060": want tcp:HOST:PORT`, `"tls:10.0.0.5:5061": needs a certificate`, `"udp:10.0.0.5": want tcp:`,
		`sip.domain a: upstream: "sips:pbx;transport=udp": sips: is never over UDP`,
		`sip.domain b: upstream: "tel:+1": want a sip: or sips: URI`, `sip.domain c: upstream: "pbx:5060"`, "sip.domain d: upstream: none given",
		`transport=sctp is not offered`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing says %s in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "domain f") {
		t.Error(err)
	}
	udpOnly := map[string][]string{"a": {"sip:pbx;transport=udp"}}
	if err := (Config{Upstreams: udpOnly}).Validate(); err == nil || !strings.Contains(err.Error(), "needs a udp: entry") {
		t.Error(err)
	}
	if err := (Config{Upstreams: udpOnly, Listen: []string{"udp::5060"}}).Validate(); err != nil {
		t.Error(err)
	}
	if New(Config{Listen: []string{"x"}}, &recorder{}, nil, nil).Run(t.Context()) == nil {
		t.Error("Run takes what Validate refuses")
	}
}

func TestAListenerThatFailsIsNamedAndTheOthersClose(t *testing.T) {
	d := newDoor()
	u := New(Config{
		Listen:    []string{"tcp:10.0.0.5:5060", "udp:10.0.0.5:5060"},
		ListenTCP: func(context.Context, string) (net.Listener, error) { return d, nil },
		ListenUDP: func(context.Context, string) (net.PacketConn, error) { return nil, errors.New("address in use") },
	}, &recorder{}, nil, nil)
	err := u.Run(t.Context())
	if err == nil || err.Error() != "sip.listen udp:10.0.0.5:5060: address in use" {
		t.Error(err)
	}
	select {
	case <-d.shut:
	default:
		t.Error("the first listener stays open")
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	u := New(Config{}, &recorder{}, nil, reg)
	u.metrics.conns.WithLabelValues("TCP", "in").Inc()
	u.metrics.dials.WithLabelValues("ok").Inc()
	u.metrics.messages.WithLabelValues("in", "TCP").Inc()
	u.metrics.dropped.WithLabelValues("framing").Inc()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
