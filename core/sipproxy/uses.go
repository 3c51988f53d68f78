package sipproxy

import (
	"maps"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/liveness"
	"sallyport/core/location"
)

// uses knows when somebody last used a device: sent a message, or called. The
// zero value is ready.
type uses struct {
	mu    sync.Mutex
	last  map[location.DeviceID]time.Time // guarded by mu
	swept time.Time                       // guarded by mu
}

// usesMany is how many devices are known before those that were used long ago
// are forgotten.
const usesMany = 1024

func (u *uses) note(id location.DeviceID, now time.Time, within time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = make(map[location.DeviceID]time.Time)
	}
	if len(u.last) >= usesMany && now.Sub(u.swept) >= within/4 {
		maps.DeleteFunc(u.last, func(_ location.DeviceID, at time.Time) bool { return now.Sub(at) >= within })
		u.swept = now
	}
	u.last[id] = now
}

func (u *uses) since(id location.DeviceID, now time.Time) (d time.Duration, known bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	at, known := u.last[id]
	return now.Sub(at), known
}

// used notes a request of a client, if it is one that somebody makes by hand: an
// app sends receipts by itself, also when a push woke it.
func (p *Proxy) used(id location.DeviceID, req *sip.Request) {
	if p.cfg.DesktopActive <= 0 || !req.IsInvite() && req.Method != sip.MESSAGE || req.Method == sip.MESSAGE && kindOf(req) == silent {
		return
	}
	p.uses.note(id, time.Now(), p.cfg.DesktopActive)
}

// usesAnother says whether the user of a device looks at another, and has used
// it lately: then this one is spared the push.
func (p *Proxy) usesAnother(id location.DeviceID) bool {
	if p.cfg.DesktopActive <= 0 {
		return false
	}
	now := time.Now()
	for _, dev := range p.loc.Lookup(id.AOR) {
		if dev.ID == id {
			continue
		}
		if d, known := p.uses.since(dev.ID, now); known && d < p.cfg.DesktopActive && p.State(dev) == liveness.Foreground {
			return true
		}
	}
	return false
}
