package push

import "time"

// How long an app is left alone whose provider does not take pushes: twice as
// long each time, with one push let through after each. Where nobody answers
// the pause is short, so that pushes flow soon after the way is open again.
const (
	firstPause = time.Second
	deafPause  = 4 * time.Second
	firmPause  = time.Minute
)

// slots bound the notes of one app that are under way, so that a provider which
// hangs holds up its own pushes alone. Owned by the lane.
type slots struct {
	limit  int
	many   bool // its provider is many servers, of which one may be down
	flying int
	line   []*chat // that wait for a slot, the first first
	step   int     // pauses in a row
	until  time.Time
}

// free is when the app is sent to again; the past for now.
func (s *slots) free(now time.Time) time.Time {
	if s.step > 0 && s.until.After(now) {
		return s.until
	}
	return time.Time{}
}

// busy says whether all slots are taken. After a pause there is one.
func (s *slots) busy() bool {
	if s.step > 0 {
		return s.flying > 0
	}
	return s.flying >= s.limit
}

func (s *slots) park(c *chat) {
	c.parked = true
	s.line = append(s.line, c)
}

// freed takes out the chats that can have a slot now; all, where the app is left
// alone for a while and they must be planned anew.
func (s *slots) freed(now time.Time) []*chat {
	n := s.limit - s.flying
	switch {
	case s.free(now).After(now):
		n = len(s.line)
	case s.step > 0:
		n = 1 - s.flying
	}
	n = min(max(n, 0), len(s.line))
	out := append([]*chat(nil), s.line[:n]...)
	clear(s.line[:n])
	s.line = s.line[n:]
	return out
}

// heard takes note of how a push of the app ended.
func (s *slots) heard(r Result, now time.Time) {
	switch {
	case s.many:
	case r.Outcome != ProviderDown:
		s.step = 0
	case now.Before(s.until): // one that was under way when the pause began
	default:
		s.step++
		pause := deafPause
		if r.Status != 0 {
			pause = firmPause
		}
		s.until = now.Add(min(firstPause<<min(s.step-1, 8), pause))
	}
}
