package fcm

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the operator cannot see from the outcomes.
type metrics struct {
	connections prometheus.Counter
	resent      prometheus.Counter
	probes      prometheus.Counter
	fetches     *prometheus.CounterVec // by outcome: fetched or failed
}

// newMetrics registers the metrics, or shares those of the client that did so
// before it.
func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		connections: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_push_fcm_connections_total",
			Help: "Connections opened to FCM. There are two to an app, and seldom more."})),
		resent: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_push_fcm_resent_total",
			Help: "Pushes sent a second time because the first attempt had no answer."})),
		probes: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_push_fcm_probes_total",
			Help: "Questions to FCM whether it was the token or the payload that it refused."})),
		fetches: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_push_fcm_access_tokens_total",
			Help: "Access tokens asked for, by outcome: fetched or failed."}, []string{"outcome"})),
	}
}

func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		if old, ok := there.ExistingCollector.(C); ok {
			return old
		}
	}
	return c
}
