package im

import "github.com/prometheus/client_golang/prometheus"

// metrics are the service's counters; a nil registry leaves them uncollected.
type metrics struct {
	ended   *prometheus.CounterVec
	refused *prometheus.CounterVec
	stored  prometheus.Histogram
}

func newMetrics(s *Service, reg prometheus.Registerer) *metrics {
	m := &metrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_im_held_ended_total", Help: "Held messages by how their wait ended: delivered, refused, expired, made_room (another device of the user had it), unreadable, or elsewhere (another core)."},
			[]string{"outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_im_not_held_total", Help: "Messages that were not held, by the reason: full, too_big, busy or store."},
			[]string{"reason"}),
		stored: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sallyport_im_store_seconds", Help: "How long it took until a message was on disk.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}}),
	}
	if reg != nil {
		held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sallyport_im_held", Help: "Messages that wait for their reader."},
			func() float64 { return float64(s.total.Load()) })
		reg.MustRegister(m.ended, m.refused, m.stored, held)
	}
	return m
}
