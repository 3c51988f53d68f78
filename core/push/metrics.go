package push

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts pushes. Labels are small sets: apps are those of the
// configuration, reasons those of a table.
type metrics struct {
	wrong   *prometheus.GaugeVec
	total   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		wrong: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sallyport_push_misconfigured",
			Help: "1 while so many tokens of an app are refused that its configuration must be wrong.",
		}, []string{"provider", "app"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_push_total",
			Help: "Pushes by provider, app, channel, outcome and reason.",
		}, []string{"provider", "app", "channel", "outcome", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sallyport_push_seconds",
			Help:    "Time from the decision to push to the provider's final answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2, 2.5, 5, 15, 30},
		}, []string{"provider", "channel"}),
	}
	if reg != nil {
		reg.MustRegister(m.total, m.seconds, m.wrong)
	}
	return m
}

// observe counts one push. Without a route there is no provider to name, and
// nothing was timed.
func (m *metrics) observe(r Result, took time.Duration) {
	provider, app := r.Provider, r.App
	if provider == "" {
		provider, app = "none", "none"
	}
	m.total.WithLabelValues(provider, app, string(r.Channel), string(r.Outcome), r.label()).Inc()
	if r.Provider != "" {
		m.seconds.WithLabelValues(r.Provider, string(r.Channel)).Observe(took.Seconds())
	}
}

// conditions are the gauges of how each app fares, asked when they are read.
type conditions struct {
	apps                         []App
	up, open, connections, since *prometheus.Desc
}

func newConditions(apps []App) *conditions {
	gauge := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("sallyport_push_"+name, help, []string{"provider", "app"}, nil)
	}
	return &conditions{
		apps:        apps,
		up:          gauge("app_up", "1 while pushes of the app can be expected to be accepted."),
		open:        gauge("breaker_open", "1 while pushes of the app are not tried, since the last ones were refused."),
		connections: gauge("connections", "Open connections to the provider."),
		since:       gauge("credential_issued_seconds", "When the credential in use was issued, in seconds since 1970."),
	}
}

// Describe implements [prometheus.Collector].
func (c *conditions) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.open, c.connections, c.since} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *conditions) Collect(ch chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, v float64, a *App) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, a.Provider, a.ID)
	}
	truth := map[bool]float64{true: 1}
	for i := range c.apps {
		a := &c.apps[i]
		tell(c.up, truth[a.trouble() == nil], a)
		s, ok := a.Sender.(Conditioned)
		if !ok {
			continue
		}
		now := s.Condition()
		tell(c.open, truth[now.Open], a)
		tell(c.connections, float64(now.Connections), a)
		if !now.CredentialIssued.IsZero() {
			tell(c.since, float64(now.CredentialIssued.Unix()), a)
		}
	}
}

func (m *metrics) misconfigured(a *App, open bool) {
	value := 0.0
	if open {
		value = 1
	}
	m.wrong.WithLabelValues(a.Provider, a.ID).Set(value)
}
