package session

// quirk is what is known of a client that does not count the answers to its
// own requests.
type quirk struct {
	on    bool
	seen  int    // acknowledgements in a row that showed it
	acked uint64 // answers among what is acknowledged
}

// shownTimes is how often it has to be seen: a client that is late with one
// stanza looks the same once.
const shownTimes = 3

// correct turns the h of a client that undercounts into what it has, if that is
// wanted; known are the leading items it may have.
func (s *Session) correct(h uint32, known int) uint32 {
	d := &s.down
	answers := uint64(0)
	for _, it := range d.q[:known] {
		if it.flags&isAnswer != 0 {
			answers++
		}
	}
	q := &s.quirk
	all := d.acked + uint64(known)
	if missing := uint32(q.acked + answers); !q.on {
		switch {
		case missing > 0 && uint32(all)-h == missing:
			q.seen++
		case h == uint32(all):
			q.seen = 0
		}
		q.on = q.seen >= shownTimes
	}
	if !q.on || !s.policy.Undercount {
		return h
	}
	count := uint32(d.acked - q.acked)
	has := uint32(d.acked)
	if h-count > uint32(known) {
		return has + (h - count)
	}
	for _, it := range d.q[:known] {
		if it.flags&isAnswer == 0 {
			if count == h {
				break
			}
			count++
		}
		has++
	}
	return has
}

// Undercounts reports whether the client was seen not to count answers.
func (s *Session) Undercounts() bool { return s.quirk.on }
