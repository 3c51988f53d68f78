package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"
)

// maxDND bounds for how long do-not-disturb is switched on.
const maxDND = 366 * 24 * time.Hour

func (a *Admin) pushTest(r *http.Request) (any, error) {
	var req PushTestRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	aor, err := aorOf(req.AOR, false)
	if err != nil || a.src.PushTest == nil {
		return nil, cmp.Or(err, error(errNoSource))
	}
	wait, err := durationOf("wait", req.Wait, maxWait)
	if err != nil {
		return nil, err
	}
	if !a.testing.TryLock() {
		return nil, refusal{http.StatusTooManyRequests, "another push test is running: try again in a few seconds"}
	}
	defer a.testing.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), testTimeout+wait)
	defer cancel()
	results, err := a.src.PushTest(ctx, aor, wait)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", aor, err)
	}
	return PushTestAnswer{list(results)}, nil
}

// durationOf reads a duration up to most; "" is none.
func durationOf(key, s string, most time.Duration) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > most {
		return 0, refusal{http.StatusBadRequest, fmt.Sprintf("%s: must be a duration such as 15s, at most %v (got %q)", key, most, s)}
	}
	return d, nil
}

func (a *Admin) dnd(*http.Request) (any, error) {
	if a.src.DND == nil {
		return nil, errNoSource
	}
	return list(a.src.DND()), nil
}

func (a *Admin) setDND(r *http.Request) (any, error) {
	var req DNDRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	aor, err := aorOf(req.AOR, false)
	if err != nil || a.src.SetDND == nil {
		return nil, cmp.Or(err, error(errNoSource))
	}
	d, err := durationOf("for", req.For, maxDND)
	if err != nil {
		return nil, err
	}
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	if err := a.src.SetDND(aor, req.On, until); err != nil {
		return nil, fmt.Errorf("%s: %w", aor, err)
	}
	return a.dnd(r)
}
