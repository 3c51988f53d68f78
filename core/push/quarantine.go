package push

import (
	"fmt"
	"hash/maphash"
	"sync"
	"time"
)

// A token that an answer speaks against ([Result.Suspect]) is never deleted for
// it, since a wrong environment, topic or project gets the same answers for
// every token. It is quarantined: kept, and pushed to seldom, until a push to it
// is accepted. Where the answers speak against many tokens of one app at once,
// it is the configuration that is wrong, and none is quarantined any more.
const (
	// callProbe is how often a call is tried on a quarantined token: a phone that
	// rings late is worth a refused push a minute.
	callProbe = time.Minute
	// noteProbe is when a note is first tried again, and after twice as long with
	// each refusal, up to maxProbe.
	noteProbe = time.Minute
	maxProbe  = time.Hour
)

// rest is how long t is still left alone at now; 0 if it may be pushed to.
func (t Token) rest(n need, now time.Time) time.Duration {
	if t.Suspects == 0 {
		return 0
	}
	wait := callProbe
	if n != needCall {
		wait = min(noteProbe<<min(t.Suspects-1, 10), maxProbe)
	}
	return min(max(t.Suspected.Add(wait).Sub(now), 0), wait) // also when the clock was set back
}

// Mass suspicion: at least one in suspectShare of at least suspectTokens
// distinct tokens within suspectWindow.
const (
	suspectWindow = 10 * time.Minute
	suspectTokens = 50
	suspectShare  = 5
	// calmTokens is how many tokens must be heard of before a share below that
	// ends it; with fewer, no suspect at all within the window does.
	calmTokens = 10
	// maxHeard bounds the tokens remembered. Beyond it half of them are, chosen by
	// hash, so that the share stays what it is.
	maxHeard = 8192
)

// suspicion watches the answers for the tokens of one app. The zero value has
// heard nothing.
type suspicion struct {
	mu sync.Mutex
	// Guarded by mu.
	heard    map[uint64]heard // by the token's hash
	suspects int              // of heard
	mask     uint64           // only hashes without these bits are heard
	swept    time.Time
	reason   string // of the last suspect answer
	open     bool
}

type heard struct {
	at      time.Time
	suspect bool
}

var suspectSeed = maphash.MakeSeed()

// note enters the answer for a token and reports whether the configuration is
// suspected now, and whether that is news.
func (s *suspicion) note(token, reason string, suspect bool, now time.Time) (open, news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if suspect {
		s.reason = reason
	}
	s.sweep(now)
	if h := maphash.String(suspectSeed, token); h&s.mask == 0 {
		s.enter(h, heard{now, suspect})
	}
	was, all := s.open, len(s.heard)
	mass := s.suspects*suspectShare >= all
	switch {
	case !s.open:
		s.open = mass && all >= suspectTokens
	case !suspect:
		s.open = s.suspects > 0 && (mass || all < calmTokens)
	}
	return s.open, s.open != was
}

// enter replaces what was heard of a token. Under s.mu.
func (s *suspicion) enter(h uint64, e heard) {
	if s.heard[h].suspect {
		s.suspects--
	}
	if e.suspect {
		s.suspects++
	}
	if s.heard == nil {
		s.heard = make(map[uint64]heard)
	}
	s.heard[h] = e
	for len(s.heard) > maxHeard {
		s.mask = s.mask<<1 | 1
		s.forget(func(h uint64, _ heard) bool { return h&s.mask != 0 })
	}
}

// sweep forgets, once a minute, what is older than the window. Under s.mu.
func (s *suspicion) sweep(now time.Time) {
	if age := now.Sub(s.swept); age >= 0 && age < time.Minute {
		return
	}
	s.swept = now
	s.forget(func(_ uint64, e heard) bool { return now.Sub(e.at) > suspectWindow })
	if len(s.heard) < maxHeard/4 {
		s.mask >>= 1
	}
}

func (s *suspicion) forget(which func(uint64, heard) bool) {
	for h, e := range s.heard {
		if which(h, e) {
			if e.suspect {
				s.suspects--
			}
			delete(s.heard, h)
		}
	}
}

// isOpen reports whether the configuration is suspected, with what was heard.
func (s *suspicion) isOpen() (open bool, suspects, all int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open, s.suspects, len(s.heard), s.reason
}

// remedies say what to check when an app's tokens are refused in masses.
var remedies = map[string]string{
	ProviderAPNs:    "check that environment, id and team_id are those of the app that is installed",
	ProviderFCM:     "check that service_account and project are those that the app was built with",
	ProviderWebPush: "check that vapid_key is the one that the clients subscribed with",
}

// judge takes the suspicion off a token where it falls on the configuration.
func (s *Service) judge(app *App, res *Result, now time.Time) {
	if res.Outcome != Accepted && res.Outcome != DeadToken && !res.Suspect {
		return // the answer tells nothing of the token
	}
	su := s.suspicions[app]
	open, news := su.note(res.Token.Value, res.Reason, res.Suspect, now)
	if news {
		s.metrics.misconfigured(app, open)
		if open {
			s.log.Error("push tokens refused in masses, none is quarantined any more", "why", s.suspected(app))
		} else {
			s.log.Info("push tokens are accepted again", "app", app.ID, "provider", app.Provider)
		}
	}
	if open {
		res.Suspect = false
	}
}

// suspected says what is wrong with an app's configuration, "" if nothing is.
func (s *Service) suspected(app *App) string {
	open, suspects, all, reason := s.suspicions[app].isOpen()
	if !open {
		return ""
	}
	return fmt.Sprintf("wrong environment, topic or project: %s refuses %d of the last %d tokens of %s (%s): %s; nothing is deleted or quarantined meanwhile",
		app.Provider, suspects, all, app.ID, clip(reason), remedies[app.Provider])
}

// held says why a push is not sent although it has a route: its token is
// quarantined. rest is when to ask again.
func (s *Service) held(r route, n need, now time.Time) (rest time.Duration, reason string) {
	rest = r.token.rest(n, now)
	if rest == 0 {
		return 0, ""
	}
	if open, _, _, _ := s.suspicions[r.app].isOpen(); open {
		return 0, ""
	}
	return rest, fmt.Sprintf("the token is quarantined, since %s refused it %d times in a row: tried again in %v",
		r.app.Provider, r.token.Suspects, rest.Round(time.Second))
}
