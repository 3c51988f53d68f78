package pushtest

import (
	"sync"
	"time"
)

// Google's quotas ("Throttling and quotas").
const (
	devicePerMinute  = 240
	devicePerHour    = 5000
	collapseBurst    = 20
	collapseInterval = 3 * time.Minute
)

// window counts what happens in spans that begin with what they count, and so
// are not aligned with the clock.
type window struct {
	began time.Time
	n     int
}

// full reports whether limit is reached.
func (w *window) full(now time.Time, span time.Duration, limit int) bool {
	if now.Sub(w.began) >= span {
		w.began, w.n = now, 0
	}
	return w.n >= limit
}

// bucket allows a burst and then one for each interval.
type bucket struct {
	spent int
	since time.Time
}

func (b *bucket) take(now time.Time) bool {
	if back := int(now.Sub(b.since) / collapseInterval); back > 0 {
		b.spent, b.since = max(0, b.spent-back), b.since.Add(time.Duration(back)*collapseInterval)
	}
	if b.spent == 0 {
		b.since = now
	}
	if b.spent >= collapseBurst {
		return false
	}
	b.spent++
	return true
}

// quota counts the messages of the project and of each device.
type quota struct {
	perMinute int // static

	mu      sync.Mutex
	project window                  // guarded by mu
	devices map[string]*deviceQuota // guarded by mu
}

type deviceQuota struct {
	minute, hour window
	collapse     bucket
}

func ruleFCMProjectQuota(r *fcmSend) *fcmError {
	q := &r.sim.quota
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.project.full(r.now, time.Minute, q.perMinute) {
		return errProjectQuota
	}
	q.project.n++
	return nil
}

func ruleFCMDeviceQuota(r *fcmSend) *fcmError {
	if r.Token == "" || r.ValidateOnly {
		return nil
	}
	collapses := (r.CollapseKey != "" || r.Notification) && r.TTL > 0
	if !r.sim.quota.take(r.Token, collapses, r.now) {
		return errDeviceQuota
	}
	return nil
}

// take counts a message to a device, where it is within the device's quotas.
func (q *quota) take(token string, collapses bool, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := q.devices[token]
	if d == nil {
		if q.devices == nil || len(q.devices) >= maxTokens {
			q.devices = make(map[string]*deviceQuota)
		}
		d = &deviceQuota{}
		q.devices[token] = d
	}
	if d.minute.full(now, time.Minute, devicePerMinute) || d.hour.full(now, time.Hour, devicePerHour) {
		return false
	}
	if collapses && !d.collapse.take(now) {
		return false
	}
	d.minute.n++
	d.hour.n++
	return true
}
