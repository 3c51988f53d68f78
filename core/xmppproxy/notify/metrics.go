package notify

import "github.com/prometheus/client_golang/prometheus"

// metrics counts decisions; the pushes themselves are core/push's.
type metrics struct {
	stanzas *prometheus.CounterVec // by class
	notes   *prometheus.CounterVec // by event
	spared  *prometheus.CounterVec // by why
}

func newMetrics(reg prometheus.Registerer) *metrics {
	vec := func(name, help, label string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		if reg != nil {
			reg.MustRegister(v)
		}
		return v
	}
	return &metrics{
		stanzas: vec("sallyport_xmpp_waiting_stanzas_total", "Stanzas that waited for a client, by what they are worth.", "class"),
		notes:   vec("sallyport_xmpp_pushes_total", "Pushes asked for on behalf of XMPP clients, by event.", "event"),
		spared:  vec("sallyport_xmpp_pushes_spared_total", "Pushes that were not worth sending, or not yet, by why.", "why"),
	}
}
