package tunnel

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/tunnel/frame"
)

// metrics are what one end counts. Labels are small sets: never a client.
type metrics struct {
	sessions prometheus.Gauge
	links    prometheus.Gauge
	flows    prometheus.Gauge
	unacked  *oldest
	rtt      prometheus.Histogram
	ends     *prometheus.CounterVec // reason
	linkEnds *prometheus.CounterVec // reason
	refused  *prometheus.CounterVec // reason
	closes   *prometheus.CounterVec // code
	reopened prometheus.Counter
	resumed  prometheus.Counter
	replayed prometheus.Counter
	sent     prometheus.Counter
}

// newMetrics makes the metrics of one role and registers them, unless r is
// nil. Two ends of the same role that share a registry share the metrics.
func newMetrics(r prometheus.Registerer, role frame.Role) *metrics {
	labels := prometheus.Labels{"role": role.String()}
	gauge := func(name, help string) prometheus.Gauge {
		return register(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sallyport_tunnel_" + name, Help: help, ConstLabels: labels}))
	}
	counter := func(name, help string) prometheus.Counter {
		return register(r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_tunnel_" + name, Help: help, ConstLabels: labels}))
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_tunnel_" + name, Help: help, ConstLabels: labels}, []string{label}))
	}
	return &metrics{
		sessions: gauge("sessions", "Sessions, those that wait for a connection included."),
		links:    gauge("links", "Connections that carry sessions."),
		unacked:  register(r, newOldest(labels)),
		flows:    gauge("flows", "Client flows, those that wait for a session included."),
		rtt: register(r, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sallyport_tunnel_rtt_seconds", Help: "Round trips of pings.", ConstLabels: labels,
			Buckets: []float64{.0002, .001, .005, .02, .05, .1, .25, .5, 1, 2.5, 5}})),
		ends:     vec("session_ends_total", "Sessions that ended, by reason.", "reason"),
		linkEnds: vec("link_ends_total", "Connections that ended, by reason.", "reason"),
		refused:  vec("refused_total", "Connections refused or not made, by reason.", "reason"),
		closes:   vec("flow_closes_total", "Flows that ended, by code.", "code"),
		reopened: counter("flows_reopened_total", "Flows opened again in a new session."),
		resumed:  counter("links_resumed_total", "Connections that went on where the one before broke."),
		replayed: counter("replayed_bytes_total", "Bytes written again after a connection broke."),
		sent:     counter("sent_bytes_total", "Bytes written to links."),
	}
}

// register returns c, or what r already has in its place.
func register[C prometheus.Collector](r prometheus.Registerer, c C) C {
	if r == nil {
		return c
	}
	var there prometheus.AlreadyRegisteredError
	if errors.As(r.Register(c), &there) {
		if same, ok := there.ExistingCollector.(C); ok {
			return same
		}
	}
	return c
}

// flowEnded counts a flow that was open.
func (m *metrics) flowEnded(code CloseCode) {
	m.flows.Dec()
	m.closed(code)
}

// closed counts an end. Codes are a peer's word, so unknown ones are one.
func (m *metrics) closed(code CloseCode) {
	name := code.String()
	if code < CloseClient || code > CloseReconnect {
		name = "other"
	}
	m.closes.WithLabelValues(name).Inc()
}

// sessionEnded counts the end of a session that was up.
func (m *metrics) sessionEnded(err error) {
	m.sessions.Dec()
	m.ends.WithLabelValues(reason(err)).Inc()
}

// reason puts errors into few drawers.
func reason(err error) string {
	switch {
	case errors.Is(err, errDead):
		return "dead"
	case errors.Is(err, errStalled):
		return "stalled"
	case errors.Is(err, errTakenOver):
		return "taken_over"
	case errors.Is(err, errLeft):
		return "left"
	case errors.Is(err, errReplaced):
		return "replaced"
	case errors.Is(err, errProtocol), errors.Is(err, frame.ErrSyntax):
		return "protocol"
	case errors.Is(err, errReset):
		return "reset"
	}
	return "lost"
}
