package pushtest

import (
	"slices"
	"sync"
	"time"
)

// FCMApp is what FCM knows of a registration token: an app on a device.
type FCMApp struct {
	// Project is whose token it is; "" is the simulator's own.
	Project string `json:"project"`
	// Unregistered says that the app is gone from the device.
	Unregistered bool `json:"unregistered"`
	// LastSeen is when the app last spoke to FCM; zero is always of late. After
	// 270 days the token is expired.
	LastSeen time.Time `json:"last_seen,omitzero"`
	// Offline says that the device has no connection to FCM.
	Offline bool `json:"offline"`
	// Doze says that the device sleeps: only messages of high priority reach it.
	Doze bool `json:"doze"`
}

// FCMDelivery is what an app received.
type FCMDelivery struct {
	At      time.Time
	Message FCMMessage
	// Deprioritized says that the message was sent with high priority and came
	// with normal, because the app showed nothing for earlier ones.
	Deprioritized bool
	// Duplicate says that the same message came before.
	Duplicate bool
	// Deleted is no message, but word that stored ones were discarded
	// (onDeletedMessages).
	Deleted bool
}

const (
	staleAfter    = 270 * 24 * time.Hour
	maxDeliveries = 1000 // kept by Delivered, for each app
	maxPlain      = 100  // messages stored that do not collapse
	maxCollapse   = 4    // collapse keys stored
	// FCM looks at the high messages of a week ("Set and manage message
	// priority"). How many it needs it does not say: here it is five, more than
	// half of them without a trace for the user.
	behaviour    = 7 * 24 * time.Hour
	behaviourMin = 5
)

// appTable holds the apps by token.
type appTable struct {
	mu    sync.Mutex
	table map[string]*app // guarded by mu
}

// app is an app with what FCM has for it and gave to it. Guarded by appTable.mu.
type app struct {
	FCMApp
	box       mailbox[pending]
	delivered []FCMDelivery
	seen      map[string]bool // identities of messages delivered
	urgent    []urgent        // high messages of the last week
}

type pending struct {
	message FCMMessage
	id      string
}

type urgent struct {
	at    time.Time
	name  string
	shown bool
}

func newApp(a FCMApp) *app {
	return &app{FCMApp: a, seen: make(map[string]bool), box: mailbox[pending]{keys: maxCollapse, plain: maxPlain}}
}

// Register makes a registration token known, or changes it. A device that is
// reachable again receives what was stored for it.
func (s *FCM) Register(token string, a FCMApp) {
	t := &s.apps
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.table == nil {
		t.table = make(map[string]*app)
	}
	old := t.table[token]
	if old == nil {
		if len(t.table) < maxTokens {
			t.table[token] = newApp(a)
		}
		return
	}
	old.FCMApp = a
	if !a.Offline && !a.Doze {
		old.flush(s.now())
	}
}

// Unregister says that the app left the device: messages get UNREGISTERED.
func (s *FCM) Unregister(token string) {
	a, _ := s.apps.get(token)
	a.Unregistered = true
	s.Register(token, a)
}

// Delivered returns what the app received, oldest first. The last thousand are
// kept.
func (s *FCM) Delivered(token string) []FCMDelivery {
	s.apps.mu.Lock()
	defer s.apps.mu.Unlock()
	if a := s.apps.table[token]; a != nil {
		return slices.Clone(a.delivered)
	}
	return nil
}

// Show says that the app showed something for the message of that name, as it
// must for one of high priority. It reports whether there is such a message.
func (s *FCM) Show(token, name string) bool {
	s.apps.mu.Lock()
	defer s.apps.mu.Unlock()
	a := s.apps.table[token]
	if a == nil {
		return false
	}
	i := slices.IndexFunc(a.urgent, func(u urgent) bool { return u.name == name })
	if i >= 0 {
		a.urgent[i].shown = true
	}
	return i >= 0
}

func (t *appTable) get(token string) (FCMApp, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.table[token]
	if a == nil {
		return FCMApp{}, false
	}
	return a.FCMApp, true
}

// deliver gives a message to the app, now or when it can be reached.
func (t *appTable) deliver(m FCMMessage, id string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.table[m.Token]
	if a == nil {
		if len(t.table) >= maxTokens {
			return
		}
		if t.table == nil {
			t.table = make(map[string]*app)
		}
		a = newApp(FCMApp{})
		t.table[m.Token] = a
	}
	lowered := m.Priority == "high" && a.lowered(now)
	if a.Offline || a.Doze && (m.Priority != "high" || lowered) {
		if m.TTL > 0 { // ttl 0 is now or never
			key := m.CollapseKey
			if key == "" && m.Notification {
				key = "the app's package" // as FCM does for notifications
			}
			a.box.put(now, stored[pending]{key: key, expires: now.Add(m.TTL), what: pending{m, id}})
		}
		return
	}
	a.receive(pending{m, id}, lowered, now)
}

func (a *app) receive(p pending, lowered bool, now time.Time) {
	if p.message.Priority == "high" && !lowered {
		a.urgent = append(a.urgent, urgent{at: now, name: p.message.Name, shown: p.message.Notification})
		if len(a.urgent) > maxDeliveries {
			a.urgent = a.urgent[1:]
		}
	}
	if len(a.delivered) >= maxDeliveries {
		a.delivered = slices.Delete(a.delivered, 0, maxDeliveries/10)
	}
	if len(a.seen) >= maxPushes {
		clear(a.seen)
	}
	a.delivered = append(a.delivered, FCMDelivery{At: now, Message: p.message, Deprioritized: lowered, Duplicate: a.seen[p.id]})
	a.seen[p.id] = true
}

// lowered reports whether high messages are delivered as normal ones.
func (a *app) lowered(now time.Time) bool {
	a.urgent = slices.DeleteFunc(a.urgent, func(u urgent) bool { return now.Sub(u.at) >= behaviour })
	hidden := 0
	for _, u := range a.urgent {
		if !u.shown {
			hidden++
		}
	}
	return len(a.urgent) >= behaviourMin && 2*hidden > len(a.urgent)
}

// flush gives the app what was stored, the newest first, as FCM promises no
// order.
func (a *app) flush(now time.Time) {
	waiting, lost := a.box.take(now)
	if lost {
		a.delivered = append(a.delivered, FCMDelivery{At: now, Deleted: true})
	}
	slices.Reverse(waiting)
	for _, p := range waiting {
		a.receive(p, p.message.Priority == "high" && a.lowered(now), now)
	}
}
