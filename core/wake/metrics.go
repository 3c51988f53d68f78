package wake

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/core/push"
)

type metrics struct {
	ratios  ratios // has its own lock
	effects *prometheus.CounterVec
	latency *prometheus.HistogramVec
	wakes   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// newMetrics registers with reg, unless it is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		effects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_wake_pushes_total",
			Help: "Accepted pushes to sleeping devices, by whether a registration followed within 15 s; on the Message channel people decide.",
		}, []string{"provider", "app", "channel", "result"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sallyport_wake_latency_seconds",
			Help:    "Time from an accepted push to the registration that followed within 15 s.",
			Buckets: []float64{.25, .5, 1, 1.5, 2, 3, 4, 5, 7, 10, 15},
		}, []string{"provider", "app", "channel"}),
		wakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_wake_total",
			Help: "Calls that waited for a sleeping device, by how the wait ended.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sallyport_wake_seconds",
			Help:    "Time from a push to the registration it brought, by provider.",
			Buckets: []float64{.1, .25, .5, 1, 1.5, 2, 3, 5, 8, 13, 20, 30, 60},
		}, []string{"provider"}),
	}
	for _, o := range outcomes {
		m.wakes.WithLabelValues(o.name)
	}
	if reg != nil {
		reg.MustRegister(m.wakes, m.seconds, m.effects, m.latency, &m.ratios)
	}
	return m
}

// outcomes names how a wait can end.
var outcomes = []struct {
	err  error
	name string
}{
	{nil, "registered"},
	{ErrWindow, "window_over"},
	{ErrNoRoute, "no_route"},
	{ErrDeadToken, "dead_token"},
	{ErrProviderDown, "provider_down"},
	{ErrRate, "rate"},
	{ErrQuiet, "quiet"},
	{ErrRefused, "refused"},
	{ErrGone, "gone"},
	{ErrStopped, "stopped"},
	{context.Canceled, "cancelled"}, // and whatever else ends the caller's ctx
}

func (m *metrics) count(err error) {
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			m.wakes.WithLabelValues(o.name).Inc()
			return
		}
	}
	m.wakes.WithLabelValues("cancelled").Inc()
}

func (m *metrics) woke(provider string, took time.Duration) {
	switch provider {
	case "apns", "fcm", "webpush":
	default:
		provider = "other"
	}
	m.seconds.WithLabelValues(provider).Observe(took.Seconds())
}

// scored counts what a push brought. Labels are the config's, and few.
func (m *metrics) scored(sc Score) {
	result := "missed"
	if sc.Woke() {
		result = "woke"
		m.latency.WithLabelValues(sc.Push.Provider, sc.Push.App, string(sc.Push.Channel)).Observe(sc.Took.Seconds())
	}
	m.effects.WithLabelValues(sc.Push.Provider, sc.Push.App, string(sc.Push.Channel), result).Inc()
	if sc.Push.Channel == push.VoIP {
		m.ratios.count(sc, time.Now())
	}
}
