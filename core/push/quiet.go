package push

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Manner is what happens to a note in quiet hours.
type Manner string

// The manners.
const (
	MannerHold    Manner = "hold"    // it waits for the end
	MannerPassive Manner = "passive" // it is sent, and does not light the screen
	MannerPush    Manner = "push"    // as at any other time
)

// QuietRule says when somebody is not to be disturbed, and what that means.
type QuietRule struct {
	// AOR is whose rule it is: an AOR, "@domain", or "*" for all.
	AOR string
	// From and To are times of day; To is on the next day where it is not after
	// From. Both equal is a whole day.
	From, To time.Duration
	// Days on which it begins; none is each.
	Days []time.Weekday
	// Zone of From, To and Days; nil is UTC.
	Zone *time.Location
	// Notes is what happens to notes; "" is MannerHold.
	Notes Manner
	// Ring lets calls ring. Else no VoIP push leaves, the caller is told at once,
	// and the missed call is a note like any other.
	Ring bool
	// VIP are AORs and "@domains" whose calls and notes come through.
	VIP []string
}

// Ruling is what quiet hours say of a push now. The zero value lets it go.
type Ruling struct {
	// Hold: a note waits; a call does not ring.
	Hold bool
	// Passive: a note must not light the screen.
	Passive bool
	// Until is when the rule ends and to ask again; zero for do-not-disturb
	// without an end.
	Until time.Time
	// Reason is for traces and logs: "quiet hours until 07:00 (Europe/Berlin)".
	Reason string
}

// always reports whether the rule has no end.
func (q *QuietRule) always() bool { return q.From == q.To && len(q.Days) == 0 }

// active reports whether now lies in a window of the rule, and its end. A window
// begins and ends when the clocks on the wall say so: in the night in which
// they are put forward it is an hour shorter.
func (q *QuietRule) active(now time.Time) (until time.Time, ok bool) {
	if q.always() {
		return time.Time{}, true
	}
	local := now.In(q.zone())
	for back := 1; back >= 0; back-- { // yesterday's window may still be open
		y, m, d := local.AddDate(0, 0, -back).Date()
		day := time.Date(y, m, d, 12, 0, 0, 0, time.UTC).Weekday()
		if len(q.Days) > 0 && !slices.Contains(q.Days, day) {
			continue
		}
		next := d
		if q.To <= q.From {
			next++
		}
		start, end := q.clock(y, m, d, q.From), q.clock(y, m, next, q.To)
		if !now.Before(start) && now.Before(end) {
			return end, true
		}
	}
	return time.Time{}, false
}

// clock is the time of day at on a date, by the clock on the wall.
func (q *QuietRule) clock(y int, m time.Month, d int, at time.Duration) time.Time {
	return time.Date(y, m, d, int(at/time.Hour), int(at%time.Hour/time.Minute), 0, 0, q.zone())
}

func (q *QuietRule) zone() *time.Location {
	if q.Zone == nil {
		return time.UTC
	}
	return q.Zone
}

// reason names the rule for people.
func (q *QuietRule) reason(until time.Time) string {
	if until.IsZero() {
		return "quiet hours"
	}
	return fmt.Sprintf("quiet hours until %s (%s)", until.In(q.zone()).Format("15:04"), q.zone())
}

// ruling applies the rule to a push that comes from a caller or writer.
func (q *QuietRule) ruling(n need, from string, until time.Time, reason string) Ruling {
	if slices.ContainsFunc(q.VIP, func(who string) bool { return names(who, from) }) {
		return Ruling{}
	}
	r := Ruling{Until: until, Reason: reason}
	switch {
	case n == needCall && q.Ring, n == needNote && q.Notes == MannerPush:
		return Ruling{}
	case n == needNote && q.Notes == MannerPassive:
		r.Passive = true
	default:
		r.Hold = true
	}
	return r
}

// names reports whether who, an AOR, "@domain" or "*" as people write them,
// stands for the address uri.
func names(who, uri string) bool {
	if who == "*" {
		return true
	}
	user, host := address(uri)
	if domain, ok := strings.CutPrefix(who, "@"); ok {
		return host != "" && strings.EqualFold(domain, host)
	}
	u, h := address(who)
	return u == user && h == host && u+h != ""
}

// NamesSomebody reports whether who can stand in [QuietRule.AOR] or VIP: "*",
// "@domain", or an address.
func NamesSomebody(who string) bool {
	if domain, ok := strings.CutPrefix(who, "@"); ok {
		return domain != "" && !strings.ContainsAny(domain, "@ ")
	}
	user, host := address(who)
	return who == "*" || user != "" && (host != "" || strings.HasPrefix(who, "tel:"))
}

// address takes an AOR out of a URI as SIP and XMPP have it or as people write
// it: without scheme, port, parameters and resource, and with the host in lower
// case. A tel: URI has
// no host; its visual separators do not count (RFC 3966 §5.1.1).
func address(uri string) (user, host string) {
	scheme, rest, ok := strings.Cut(uri, ":")
	switch {
	case ok && strings.EqualFold(scheme, "tel"):
		number, _, _ := strings.Cut(rest, ";")
		return strings.NewReplacer("-", "", ".", "", "(", "", ")", "").Replace(number), ""
	case !ok || strings.ContainsAny(scheme, "@.;"):
		rest = uri
	}
	at := strings.LastIndexByte(rest, '@')
	if at < 0 || strings.Contains(rest[:at], "@") {
		return "", ""
	}
	user, host = rest[:at], rest[at+1:]
	user, _, _ = strings.Cut(user, ";")
	if i := strings.IndexAny(host, ";?>/"); i >= 0 {
		host = host[:i]
	}
	if !strings.HasPrefix(host, "[") {
		host, _, _ = strings.Cut(host, ":")
	} else if i := strings.IndexByte(host, ']'); i >= 0 {
		host = host[:i+1]
	}
	return user, strings.ToLower(host)
}
