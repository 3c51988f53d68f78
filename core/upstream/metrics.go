package upstream

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	up       *prometheus.GaugeVec
	conns    *prometheus.GaugeVec
	dials    *prometheus.CounterVec
	messages *prometheus.CounterVec
	dropped  *prometheus.CounterVec
}

// newMetrics registers this package's metrics; a nil reg leaves them unseen.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sallyport_upstream_up",
			Help: "Whether a SIP server of a domain can be reached (1) or not (0).",
		}, []string{"domain", "server"}),
		conns: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sallyport_upstream_connections",
			Help: "Connections with SIP servers, by transport and who opened them (in: they, out: the core).",
		}, []string{"transport", "direction"}),
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_upstream_dials_total",
			Help: "Attempts to reach a SIP server, by outcome (ok, failed).",
		}, []string{"outcome"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_upstream_messages_total",
			Help: "SIP messages exchanged with SIP servers, by direction (in, out) and transport.",
		}, []string{"direction", "transport"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_upstream_dropped_total",
			Help: "Messages and connections dropped, by reason (untrusted, queue_full, framing, too_big, too_many, handshake).",
		}, []string{"reason"}),
	}
	if reg != nil {
		reg.MustRegister(m.up, m.conns, m.dials, m.messages, m.dropped)
	}
	return m
}
