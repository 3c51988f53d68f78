package webpush

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the operator cannot see from the outcomes.
type metrics struct {
	connections prometheus.Counter
	resent      prometheus.Counter
	forbidden   prometheus.Counter
}

// newMetrics registers the metrics, or shares those of the client that did so
// before it.
func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		connections: counter(reg, "sallyport_push_webpush_connections_total",
			"Connections opened to push services of Web Push."),
		resent: counter(reg, "sallyport_push_webpush_resent_total",
			"Pushes sent a second time because the first attempt was on a connection that had died."),
		forbidden: counter(reg, "sallyport_push_webpush_forbidden_total",
			"Pushes not sent because their token leads where nothing may be pushed to, such as inside."),
	}
}

func counter(reg prometheus.Registerer, name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		if old, ok := there.ExistingCollector.(prometheus.Counter); ok {
			return old
		}
	}
	return c
}
