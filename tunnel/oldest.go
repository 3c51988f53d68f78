package tunnel

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// oldest is a gauge of how long some link has waited for the peer to
// acknowledge anything, though there is something: the longest of all. It
// grows where a peer is alive and useless.
type oldest struct {
	desc *prometheus.Desc // static

	mu   sync.Mutex
	ages map[*link]time.Duration // guarded by mu; those that wait
}

func newOldest(labels prometheus.Labels) *oldest {
	return &oldest{
		desc: prometheus.NewDesc("sallyport_tunnel_unacked_seconds",
			"The longest time a link has sent what is not acknowledged, and heard no acknowledgement.", nil, labels),
		ages: make(map[*link]time.Duration),
	}
}

func (o *oldest) set(l *link, age time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if age == 0 {
		delete(o.ages, l)
	} else {
		o.ages[l] = age
	}
}

func (o *oldest) forget(l *link) { o.set(l, 0) }

// Describe implements [prometheus.Collector].
func (o *oldest) Describe(ch chan<- *prometheus.Desc) { ch <- o.desc }

// Collect implements [prometheus.Collector].
func (o *oldest) Collect(ch chan<- prometheus.Metric) {
	o.mu.Lock()
	most := time.Duration(0)
	for _, age := range o.ages {
		most = max(most, age)
	}
	o.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(o.desc, prometheus.GaugeValue, most.Seconds())
}
