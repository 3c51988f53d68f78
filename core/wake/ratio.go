package wake

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The wake ratio is that of the last hour, in slots of ten minutes.
const (
	ratioSlot  = 10 * time.Minute
	ratioSlots = 6
	// An alarm needs alarmPushes within the hour, of which fewer than half woke
	// their device: phones that are off or out of coverage are far fewer.
	alarmPushes = 20
)

// Ratio is how many of an app's accepted VoIP pushes of the last hour woke
// their device.
type Ratio struct {
	Provider, App string
	Woke, Missed  int
}

// Share is the part that woke, 0 to 1.
func (r Ratio) Share() float64 { return float64(r.Woke) / float64(r.Woke+r.Missed) }

// ratios counts by app. It is a prometheus.Collector, so that what is shown is
// as old as the look at it.
type ratios struct {
	mu sync.Mutex
	of map[[2]string]*[ratioSlots]slot // guarded by mu; by provider and app, of which the config has few
}

type slot struct {
	number       int64 // of the ten minutes since 1970
	woke, missed int
}

func slotOf(at time.Time) int64 { return at.Unix() / int64(ratioSlot/time.Second) }

func (r *ratios) count(sc Score, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := [2]string{sc.Push.Provider, sc.Push.App}
	if r.of[key] == nil {
		if r.of == nil {
			r.of = make(map[[2]string]*[ratioSlots]slot)
		}
		r.of[key] = new([ratioSlots]slot)
	}
	number := slotOf(now)
	s := &r.of[key][number%ratioSlots]
	if s.number != number {
		*s = slot{number: number}
	}
	if sc.Woke() {
		s.woke++
	} else {
		s.missed++
	}
}

// last returns the ratios of the last hour, without apps that had no pushes.
func (r *ratios) last(now time.Time) (list []Ratio) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, slots := range r.of {
		sum := Ratio{Provider: key[0], App: key[1]}
		for _, s := range slots {
			if age := slotOf(now) - s.number; age >= 0 && age < ratioSlots {
				sum.Woke += s.woke
				sum.Missed += s.missed
			}
		}
		if sum.Woke+sum.Missed > 0 {
			list = append(list, sum)
		}
	}
	slices.SortFunc(list, func(a, b Ratio) int {
		return strings.Compare(a.Provider+" "+a.App, b.Provider+" "+b.App)
	})
	return list
}

var ratioDesc = prometheus.NewDesc("sallyport_wake_ratio",
	"Part of the accepted VoIP pushes of the last hour to sleeping devices that brought a registration within 15 s.",
	[]string{"provider", "app"}, nil)

// Describe implements prometheus.Collector.
func (r *ratios) Describe(c chan<- *prometheus.Desc) { c <- ratioDesc }

// Collect implements prometheus.Collector.
func (r *ratios) Collect(c chan<- prometheus.Metric) {
	for _, s := range r.last(time.Now()) {
		c <- prometheus.MustNewConstMetric(ratioDesc, prometheus.GaugeValue, s.Share(), s.Provider, s.App)
	}
}

// Ratios returns how pushes fared in the last hour, by provider and app.
func (w *Waker) Ratios() []Ratio { return w.metrics.ratios.last(time.Now()) }

// Alarms says of which apps fewer than half of the sleeping devices wake, each
// with what to look at.
func (w *Waker) Alarms() (list []string) {
	for _, r := range w.Ratios() {
		if r.Woke+r.Missed >= alarmPushes && r.Share() < .5 {
			list = append(list, fmt.Sprintf("%s accepted %d VoIP pushes of %s in the last hour and only %d woke their device: "+
				"look whether the app starts on a push and registers within %v, and whether the phones reach an edge",
				r.Provider, r.Woke+r.Missed, r.App, r.Woke, scoreWindow))
		}
	}
	return list
}
