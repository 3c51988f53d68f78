package push

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// How a row of the message lane ended, or what happened to it on the way.
const (
	endDone      = "done"      // the provider took it
	endDead      = "dead"      // it never will: no route, dead token, refused
	endExpired   = "expired"   // it was worth nothing any more
	endDropped   = "dropped"   // the device came back first, or read it elsewhere
	endCoalesced = "coalesced" // it went with another one
	endRetried   = "retried"   // it is to be sent again
	endFull      = "full"      // there was no room for it
	endUnread    = "unread"    // what the store holds cannot be read
)

// laneMetrics shows the message lane.
type laneMetrics struct {
	total  *prometheus.CounterVec
	depth  atomic.Int64 // rows that wait
	oldest atomic.Int64 // ms since 1970 of the row that waits longest, 0 for none
}

func newLaneMetrics(reg prometheus.Registerer) *laneMetrics {
	m := &laneMetrics{total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sallyport_push_queue_total",
		Help: "Notes on the message lane by what became of them.",
	}, []string{"end"})}
	if reg != nil {
		reg.MustRegister(m.total,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "sallyport_push_queue_depth",
				Help: "Notes that wait on this core to be sent.",
			}, func() float64 { return float64(m.depth.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "sallyport_push_queue_oldest_seconds",
				Help: "Age of the note that waits longest on this core.",
			}, func() float64 {
				if at := m.oldest.Load(); at != 0 {
					return time.Since(time.UnixMilli(at)).Seconds()
				}
				return 0
			}))
	}
	return m
}

// ended counts n rows.
func (m *laneMetrics) ended(how string, n int) {
	if n > 0 {
		m.total.WithLabelValues(how).Add(float64(n))
	}
}

// report shows what waits.
func (l *lane) report() {
	l.s.tally.depth.Store(int64(l.sched.waiting))
	l.s.tally.oldest.Store(milli(l.sched.oldest()))
}
