package core

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/core/admin"
	"sallyport/core/location"
	"sallyport/core/push"
)

// pushTest sends a note on the Message channel to each device of an AOR, says
// how both channels are reached, and waits for the devices to register.
func (s *Server) pushTest(ctx context.Context, aor string, wait time.Duration) ([]admin.PushResult, error) {
	devices := s.loc.Lookup(aorOf(aor))
	if len(devices) == 0 {
		return nil, admin.ErrNoDevice
	}
	results := make([]admin.PushResult, len(devices))
	var all sync.WaitGroup
	for i, d := range devices {
		all.Go(func() { results[i] = s.tryPush(ctx, d, wait) })
	}
	all.Wait()
	return results, nil
}

// never is the time until a device registered that did not.
const never = time.Duration(-1)

func (s *Server) tryPush(ctx context.Context, d location.Device, wait time.Duration) admin.PushResult {
	t := target(d)
	note := push.Note{Event: push.EventMessage, To: d.ID.AOR, Sent: time.Now()}
	out := admin.PushResult{Instance: d.ID.Instance, State: s.proxy.State(d).String(), Quiet: s.pushes.QuietNote(t, note).Reason}
	for _, w := range s.pushes.Ways(t) {
		out.Class = w.Class
		out.Ways = append(out.Ways, pushWay(w))
	}
	// Who registers before the provider's answer is here has come back, too.
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	back := make(chan time.Duration, 1)
	if wait > 0 {
		start := time.Now()
		go func() {
			took := never
			if _, err := s.waker.AwaitOther(waiting, t.Device, d.Flow(), wait); err == nil {
				took = time.Since(start)
			}
			back <- took
		}()
	}
	r := s.pushes.Test(ctx, t, note)
	out.Provider, out.App, out.Channel, out.Outcome = r.Provider, r.App, string(r.Channel), string(r.Outcome)
	out.Status, out.Reason, out.ID = r.Status, r.Reason, r.ID
	out.Meaning, out.Remedy = push.Meaning(r)
	if wait > 0 {
		if r.Outcome != push.Accepted {
			stop()
		}
		took := <-back
		if came := took != never; came || r.Outcome == push.Accepted {
			out.CameBack = &came
			if came {
				out.CameBackMS = max(took.Milliseconds(), 1)
			}
		}
	}
	return out
}

func pushWay(w push.Way) admin.PushWay {
	out := admin.PushWay{
		Channel: string(w.Channel), Provider: w.Provider, App: w.App, Kind: w.Token.Kind,
		Registered: admin.At(w.Token.Registered), Problem: w.Problem,
	}
	if w.Problem == "" {
		out.Token = push.Redact(w.Token.Value)
	}
	for _, f := range w.Facts {
		out.Facts = append(out.Facts, admin.PushFact{Name: f.Name, Value: f.Value})
	}
	return out
}

// dnd lists who is not to be disturbed.
func (s *Server) dnd() []admin.DND {
	all := []admin.DND{}
	for _, d := range s.pushes.DND() {
		all = append(all, admin.DND{AOR: d.AOR, Since: d.Since, Until: admin.At(d.Until)})
	}
	return all
}

func (s *Server) setDND(aor string, on bool, until time.Time) error {
	if !on {
		return s.pushes.ClearDND(aor)
	}
	_, domain, _ := strings.Cut(aor, "@")
	if !slices.ContainsFunc(s.cfg.SIP.Domains, func(d DomainConfig) bool { return strings.EqualFold(d.Name, domain) }) &&
		!slices.ContainsFunc(s.cfg.XMPP.Domains, func(d XMPPDomainConfig) bool { return strings.EqualFold(d.Name, domain) }) {
		return fmt.Errorf("%s is no [[sip.domain]] or [[xmpp.domain]] of this core", domain)
	}
	return s.pushes.SetDND(aor, until)
}
