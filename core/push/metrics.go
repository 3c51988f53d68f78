package push

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts pushes. Labels are small sets: no app, token or reason.
type metrics struct {
	total   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_push_total",
			Help: "Pushes by provider, channel and outcome.",
		}, []string{"provider", "channel", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sallyport_push_seconds",
			Help:    "Time from the decision to push to the provider's final answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2, 2.5, 5, 15, 30},
		}, []string{"provider", "channel"}),
	}
	if reg != nil {
		reg.MustRegister(m.total, m.seconds)
	}
	return m
}

// observe counts one push. Without a route there is no provider to name, and
// nothing was timed.
func (m *metrics) observe(r Result, took time.Duration) {
	if r.Provider == "" {
		m.total.WithLabelValues("none", string(r.Channel), string(r.Outcome)).Inc()
		return
	}
	m.total.WithLabelValues(r.Provider, string(r.Channel), string(r.Outcome)).Inc()
	m.seconds.WithLabelValues(r.Provider, string(r.Channel)).Observe(took.Seconds())
}
