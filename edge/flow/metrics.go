package flow

import "github.com/prometheus/client_golang/prometheus"

// direction is a label of metrics.
type direction int

const (
	up   direction = iota // from clients
	down                  // to clients
)

var directionNames = [...]string{up: "up", down: "down"}

// metrics counts flows and what they carry. Its counters are looked up once,
// since they are on the path of every message.
type metrics struct {
	flows    [len(kinds)]prometheus.Gauge
	closed   *prometheus.CounterVec
	messages [len(directionNames)]prometheus.Counter
	bytes    [len(directionNames)]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	flows := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sallyport_edge_flows",
		Help: "Live client flows, by service and transport.",
	}, []string{"service", "transport"})
	m := &metrics{
		closed: counter("sallyport_edge_closed_total", "Client flows that ended, by reason.", "reason"),
	}
	messages := counter("sallyport_edge_messages_total", "Messages carried, up from clients and down to them.", "direction")
	bytes := counter("sallyport_edge_message_bytes_total", "Bytes of messages carried, up from clients and down to them.", "direction")
	for d, name := range directionNames {
		m.messages[d] = messages.WithLabelValues(name)
		m.bytes[d] = bytes.WithLabelValues(name)
	}
	for k, is := range kinds {
		m.flows[k] = flows.WithLabelValues(is.service, is.transport)
	}
	if reg != nil {
		reg.MustRegister(flows, m.closed, messages, bytes)
	}
	return m
}

func (m *metrics) moved(d direction, n int, whole bool) {
	if whole {
		m.messages[d].Inc()
	}
	m.bytes[d].Add(float64(n))
}
