package sipproxy

import "github.com/prometheus/client_golang/prometheus"

// metrics are the proxy's counters; a nil registry leaves them uncollected.
type metrics struct {
	invalid   prometheus.Counter
	forbidden prometheus.Counter
	strangers prometheus.Counter
	registers *prometheus.CounterVec
	refreshed prometheus.Counter // one of registers

	reconnects, recalls prometheus.Counter
	refreshes           prometheus.Counter
	publishes           *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		invalid: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_sip_invalid_total", Help: "Messages that were no valid SIP."}),
		forbidden: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_sip_forbidden_total", Help: "Requests of clients answered 403: a Route or a From that is not theirs."}),
		strangers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_sip_strangers_total", Help: "Requests to sip.listen from addresses that are not trusted."}),
		registers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_registrations_total", Help: "REGISTER requests by what became of them."}, []string{"outcome"}),
	}
	m.refreshed = m.registers.WithLabelValues("refreshed")
	m.reconnects = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sallyport_outage_reconnects_total", Help: "Flows ended so that their clients register anew after their PBX was away."})
	m.recalls = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sallyport_outage_recalls_total", Help: "Sleeping devices asked by a push to register anew after their PBX was away."})
	m.refreshes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sallyport_refresh_pushes_total", Help: "Sleeping devices asked by a push to register before their binding at the PBX ends."})
	m.publishes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sallyport_presence_publishes_total", Help: "PUBLISH requests of the core's own, for devices that sleep or are back, by what became of them."}, []string{"outcome"})
	if reg != nil {
		reg.MustRegister(m.reconnects, m.recalls, m.refreshes, m.publishes, m.invalid, m.forbidden, m.strangers, m.registers)
	}
	return m
}
