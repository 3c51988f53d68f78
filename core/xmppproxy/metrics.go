package xmppproxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"sallyport/core/xmppproxy/session"
)

// metrics are the counters of XMPP.
type metrics struct {
	resumes  *prometheus.CounterVec
	failures *prometheus.CounterVec
	refused  prometheus.Counter
	full     prometheus.Counter
	crowded  prometheus.Counter
}

// newMetrics registers them; a nil registry counts for nobody.
func newMetrics(reg prometheus.Registerer, p *Proxy) *metrics {
	m := &metrics{
		resumes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_xmpp_resumes_total", Help: "Clients that came back to a session, or wanted to, by way: probe, swap, replay, failed, stranger, unknown.",
		}, []string{"way"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_xmpp_stream_errors_total", Help: "Streams of clients that the core ended with an error, by its condition.",
		}, []string{"condition"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_xmpp_login_failures_total", Help: "Logins that a server refused.",
		}),
		full: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_xmpp_full_total", Help: "Sessions given back to their server because they held as much as they may.",
		}),
		crowded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_xmpp_crowded_total", Help: "Logins for which there were too many sessions: one that was away made room, or they were refused.",
		}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.resumes, m.failures, m.refused, m.full, m.crowded, census{p})
	return m
}

func (m *metrics) resumed(way string)      { m.resumes.WithLabelValues(way).Inc() }
func (m *metrics) failed(condition string) { m.failures.WithLabelValues(condition).Inc() }

// census counts the sessions when it is asked.
type census struct{ p *Proxy }

var (
	descSessions = prometheus.NewDesc("sallyport_xmpp_sessions", "Sessions of XMPP clients, by state.", []string{"state"}, nil)
	descHeld     = prometheus.NewDesc("sallyport_xmpp_held_stanzas", "Stanzas that wait for XMPP clients, or for their acknowledgement.", nil, nil)
)

// Describe implements prometheus.Collector.
func (census) Describe(ch chan<- *prometheus.Desc) { ch <- descSessions; ch <- descHeld }

// Collect implements prometheus.Collector.
func (c census) Collect(ch chan<- prometheus.Metric) {
	var states [session.Ended]int
	held := 0
	for _, r := range c.p.Rows("") {
		if r.State < session.Ended {
			states[r.State]++
		}
		held += r.Held
	}
	for st := range session.Ended {
		ch <- prometheus.MustNewConstMetric(descSessions, prometheus.GaugeValue, float64(states[st]), st.String())
	}
	ch <- prometheus.MustNewConstMetric(descHeld, prometheus.GaugeValue, float64(held))
}
