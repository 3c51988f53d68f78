package c2s

import "github.com/prometheus/client_golang/prometheus"

// Metrics are those of all domains.
type Metrics struct {
	up      *prometheus.GaugeVec
	streams *prometheus.GaugeVec
	opens   *prometheus.CounterVec
}

// NewMetrics registers the metrics; a nil reg leaves them unseen.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sallyport_xmpp_upstream_up",
			Help: "Whether an XMPP server of the domain takes clients (1) or not (0).",
		}, []string{"domain"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sallyport_xmpp_upstream_streams",
			Help: "Open streams to the XMPP servers of the domain.",
		}, []string{"domain"}),
		opens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_xmpp_upstream_opens_total",
			Help: "Attempts to open a stream to an XMPP server of the domain, by outcome (ok, failed).",
		}, []string{"domain", "outcome"}),
	}
	if reg != nil {
		reg.MustRegister(m.up, m.streams, m.opens)
	}
	return m
}

// forget drops the health of a domain that is looked after no more.
func (m *Metrics) forget(domain string) { m.up.DeleteLabelValues(domain) }
