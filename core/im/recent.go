package im

import "time"

// How long, and how many of, the messages that are done with are known, so that
// one which its sender repeats is not delivered again.
const (
	recentTime = 10 * time.Minute
	recentMany = 65_536 // two for each message
)

// recent knows the marks of messages that were delivered lately: for recentTime
// at least, unless there were more than recentMany. Guarded by Service.mu.
type recent struct {
	since    time.Time
	now, old map[mark]struct{}
}

func (r *recent) turn(at time.Time) {
	if r.now == nil || at.Sub(r.since) >= recentTime || len(r.now) >= recentMany {
		if at.Sub(r.since) >= 2*recentTime {
			r.now = nil
		}
		r.old, r.now, r.since = r.now, make(map[mark]struct{}), at
	}
}

func (r *recent) add(m mark, at time.Time) {
	r.turn(at)
	r.now[m] = struct{}{}
}

func (r *recent) has(m mark, at time.Time) bool {
	r.turn(at)
	_, inNow := r.now[m]
	_, inOld := r.old[m]
	return inNow || inOld
}
