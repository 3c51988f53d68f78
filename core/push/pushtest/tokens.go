package pushtest

import (
	"sync"
	"time"
)

// Device is what APNs knows of a device token.
type Device struct {
	Topic string `json:"topic"` // the one topic it is registered for; "" takes any
	Env   string `json:"env"`   // "" is the simulator's own
	// Unregistered is since when the app is gone from the device; zero while it
	// is there.
	Unregistered time.Time `json:"unregistered,omitzero"`
	// Expired says that the token was replaced by another.
	Expired bool `json:"expired,omitempty"`
	// Offline says that the device is not connected with APNs.
	Offline bool `json:"offline,omitempty"`
	// Phone names the phone, so that its tokens share what APNs keeps for an app;
	// "" is a phone for each token.
	Phone string `json:"phone,omitempty"`
}

// tokens is the table of device tokens.
type tokens struct {
	mu    sync.Mutex
	table map[string]Device // guarded by mu
}

// maxTokens bounds the table; the control API is reachable by others.
const maxTokens = 1_000_000

func (t *tokens) get(token string) (Device, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.table[token]
	return d, ok
}

func (t *tokens) set(token string, d Device) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.table == nil {
		t.table = make(map[string]Device)
	}
	if _, known := t.table[token]; known || len(t.table) < maxTokens {
		t.table[token] = d
	}
}

// Register makes a device token known, or changes it.
func (s *APNs) Register(token string, d Device) {
	s.tokens.set(token, d)
	if !d.Offline {
		s.settle(s.devices.back(token, d, s.now()))
	}
}

// Unregister says that the app left the device at a time: pushes get 410.
func (s *APNs) Unregister(token string, at time.Time) {
	d, _ := s.tokens.get(token)
	d.Unregistered = at
	s.tokens.set(token, d)
}
