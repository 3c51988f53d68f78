package push

import (
	"context"
	"fmt"
	"time"
)

// alarmEvery is how often the apps are asked whether they are well.
const alarmEvery = 5 * time.Second

// trouble is what is wrong with an app, nil if nothing is. A sender that tells
// no condition is asked for its health.
func (a *App) trouble() *Trouble {
	if c, ok := a.Sender.(Conditioned); ok {
		if t := c.Condition().Trouble; t != nil {
			return t
		}
	}
	h, ok := a.Sender.(interface{ Health() (bool, string) })
	if !ok {
		return nil
	}
	if up, last := h.Health(); !up {
		return &Trouble{Kind: TroubleServer, Text: last}
	}
	return nil
}

// Alarms are what an operator should see to, each with its remedy, in the order
// of the apps.
func (s *Service) Alarms() (list []string) {
	for i := range s.apps {
		if t := s.apps[i].trouble(); t != nil {
			list = append(list, s.apps[i].alarm(t))
		}
	}
	return list
}

func (a *App) alarm(t *Trouble) string {
	text := fmt.Sprintf("push app %s (%s): %s", a.ID, a.Provider, t.Text)
	if t.Remedy != "" {
		text += ": " + t.Remedy
	}
	return text
}

// watch logs once when trouble of an app begins, changes its kind or ends,
// until ctx ends.
func (s *Service) watch(ctx context.Context) {
	tick := time.NewTicker(alarmEvery)
	defer tick.Stop()
	was := make([]string, len(s.apps)) // kinds
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := range s.apps {
			a := &s.apps[i]
			t, kind := a.trouble(), ""
			if t != nil {
				kind = t.Kind
			}
			switch kind {
			case was[i]:
			case "":
				s.log.Info("push alarm over", "app", a.ID, "provider", a.Provider, "kind", was[i])
			default:
				s.log.Warn("push alarm", "app", a.ID, "provider", a.Provider, "kind", kind, "reason", t.Text, "remedy", t.Remedy)
			}
			was[i] = kind
		}
	}
}
