package tunnel_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/tunnel"
)

// Both ends of one process may share a registry, and so may two of a role.
func TestMetricsCountAndAreWellNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		r, core := newRoom(t), &pbx{}
		ec, dc := edge("core1"), r.core("core1", core.open)
		ec.Metrics, dc.Metrics = reg, reg
		tunnel.NewDialer(dc)
		a, _ := pair(t, r, ec, dc)
		synctest.Wait()
		open(t, a, 1, newClient())
		f := open(t, a, 2, newClient())
		if err := f.Send(make([]byte, 600)); err != nil {
			t.Fatal(err)
		}
		f.Close(tunnel.CloseReset, "")
		time.Sleep(time.Second)
		r.last().cut()
		time.Sleep(time.Second)
		for _, problem := range must(testutil.GatherAndLint(reg))(t) {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
		for name, want := range map[string]float64{
			"sallyport_tunnel_sessions": 1, "sallyport_tunnel_flows": 1, "sallyport_tunnel_flows_reopened_total": 0,
			"sallyport_tunnel_links": 1, "sallyport_tunnel_links_resumed_total": 1, "sallyport_tunnel_unacked_seconds": 0,
		} {
			if got := value(t, reg, name, "edge"); got != want {
				t.Errorf("%s at the edge is %v, want %v", name, got, want)
			}
		}
		if got := value(t, reg, "sallyport_tunnel_flows", "core"); got != 1 {
			t.Errorf("the core counts %v flows, want 1", got)
		}
		if count(t, reg, "sallyport_tunnel_flow_closes_total", "client-reset") != 1 {
			t.Error("the close was not counted")
		}
		if count(t, reg, "sallyport_tunnel_link_ends_total", "lost") != 1 {
			t.Error("the lost connection was not counted")
		}
	})
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// value is that of the metric of one role.
func value(t testing.TB, reg *prometheus.Registry, name, role string) float64 {
	t.Helper()
	for _, f := range must(reg.Gather())(t) {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == role {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return -1
}
