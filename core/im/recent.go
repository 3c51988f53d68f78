package im

import "time"

// How long, and how many of, the messages that are done with are known, so that
// one which its sender repeats is not delivered again.
const (
	recentTime = 10 * time.Minute
	recentMany = 32_768
)

// recent knows the keys of messages that were delivered lately: for recentTime
// at least, unless there were more than recentMany. Guarded by Service.mu.
type recent struct {
	since    time.Time
	now, old map[string]struct{}
}

func (r *recent) turn(at time.Time) {
	if r.now == nil || at.Sub(r.since) >= recentTime || len(r.now) >= recentMany {
		if at.Sub(r.since) >= 2*recentTime {
			r.now = nil
		}
		r.old, r.now, r.since = r.now, make(map[string]struct{}), at
	}
}

func (r *recent) add(key string, at time.Time) {
	r.turn(at)
	r.now[key] = struct{}{}
}

func (r *recent) has(key string, at time.Time) bool {
	r.turn(at)
	_, inNow := r.now[key]
	_, inOld := r.old[key]
	return inNow || inOld
}
