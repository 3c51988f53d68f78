package pushtest

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"
)

// FCMConfig is how a simulated FCM behaves. The zero value is Google's service
// for one project.
type FCMConfig struct {
	Project    string // its id; "" is sallyport-sim
	MaxStreams uint32 // requests at a time on a connection; 0 is Google's 100
	// GoAwayAfter ends each connection after so many requests; 0 never.
	GoAwayAfter int
	// AnyToken takes each well-formed registration token for a registered one.
	AnyToken bool
	// PerMinute is the project's quota; 0 is Google's 600,000.
	PerMinute int
	// RetryAfter is what a quota that is used up answers; 0 sends no header.
	RetryAfter time.Duration
	// TokenLife is how long an access token lives; 0 is an hour.
	TokenLife time.Duration
	// Identity names what a message is about. Two messages to a device with one
	// name are a retry, and a duplicate when both arrive. nil compares whole
	// messages.
	Identity func(FCMMessage) string
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger // nil discards
}

// FCMMessage is one request to send as FCM saw it, accepted or not.
type FCMMessage struct {
	At           time.Time
	Token        string // whole; String shows its end
	Name         string // that FCM gave it; "" when refused
	Data         map[string]string
	Notification bool          // the system shows it, without the app
	Priority     string        // "high" or "normal"
	TTL          time.Duration // as FCM applies it: four weeks when not given
	TTLText      string        // as sent; "" when absent
	CollapseKey  string
	ValidateOnly bool
	Body         []byte // the whole request; of a refused one, the first 8 KiB
	Status       int
	Reason       string // FCM's error code; "" when accepted
	Conn         int    // number of the connection, from 1
}

// String is one line without the token and without the contents.
func (m FCMMessage) String() string {
	out := fmt.Sprintf("%s priority=%s ttl=%q token=%s keys=%d bytes=%d status=%d", m.At.Format("15:04:05.000"),
		m.Priority, m.TTLText, tail(m.Token), len(m.Data), len(m.Body), m.Status)
	if m.CollapseKey != "" {
		out += fmt.Sprintf(" collapse_key=%q", m.CollapseKey)
	}
	if m.ValidateOnly {
		out += " validate_only"
	}
	if m.Reason != "" {
		out += " reason=" + m.Reason
	}
	return out
}

// FCM is a simulated FCM HTTP v1 with the OAuth token endpoint that belongs to
// it. Its methods are safe for concurrent use.
type FCM struct {
	*web
	// OnPush is called for each accepted push, in a goroutine of its own as the
	// answer leaves. Set it before Serve, which waits for it.
	OnPush func(FCMMessage)
	// OnAnswer is called for every request to send, refused ones included, before
	// the answer leaves. It must not block.
	OnAnswer func(FCMMessage)

	// Static after NewFCM.
	cfg   FCMConfig
	oauth *oauth // has its own lock
	meter meter  // has its own lock

	quota       quota    // has its own lock
	apps        appTable // has its own lock
	oauthFaults faults   // has its own lock

	mu   sync.Mutex   // beside web's
	sent []FCMMessage // guarded by mu
}

// DefaultProject is the project of a simulator that was not given one.
const DefaultProject = "sallyport-sim"

// NewFCM makes a simulator with a CA and a service account of its own. It
// serves when told to.
func NewFCM(cfg FCMConfig) *FCM {
	if cfg.Project == "" {
		cfg.Project = DefaultProject
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 100
	}
	if cfg.PerMinute == 0 {
		cfg.PerMinute = 600_000
	}
	if cfg.TokenLife == 0 {
		cfg.TokenLife = time.Hour
	}
	if cfg.Identity == nil {
		cfg.Identity = wholeMessage
	}
	s := &FCM{
		web:   newWeb("fcm simulator", cfg.Log, cfg.Now, "fcm.googleapis.com", "oauth2.googleapis.com"),
		meter: meter{least: 10 * time.Second, throttled: time.Minute},
	}
	cfg.Now = s.now
	s.cfg = cfg
	s.streams, s.goAwayAfter = cfg.MaxStreams, cfg.GoAwayAfter
	s.quota.perMinute = cfg.PerMinute
	var err error
	if s.oauth, err = newOAuth(cfg.Project, cfg.TokenLife); err != nil && s.err == nil {
		s.err = err
	}
	s.handler = s.routes()
	return s
}

// Pushes returns the requests to send, oldest first, refused ones included.
// The last ten thousand are kept.
func (s *FCM) Pushes() []FCMMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

// Accepted returns the pushes that were answered with 200; those that were
// only to be validated are none.
func (s *FCM) Accepted() []FCMMessage {
	return slices.DeleteFunc(s.Pushes(), func(m FCMMessage) bool { return m.Status != 200 || m.ValidateOnly })
}

func (s *FCM) record(m FCMMessage) {
	if m.Status >= http.StatusBadRequest {
		m.Body = cut(m.Body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sent) >= maxPushes {
		s.sent = slices.Delete(s.sent, 0, maxPushes/10)
	}
	s.sent = append(s.sent, m)
}

// NewFCMToken makes a registration token as FCM gives them to apps.
func NewFCMToken() string {
	var b [117]byte
	_, _ = rand.Read(b[:]) // never fails
	s := base64.RawURLEncoding.EncodeToString(b[:])
	return s[:22] + ":APA91b" + s[22:]
}

// TokenRequests is how often an access token was asked for.
func (s *FCM) TokenRequests() int { return s.oauth.asked() }

// ExpireTokens makes the access tokens given so far worthless before their
// time: sending with one is answered with 401.
func (s *FCM) ExpireTokens() { s.oauth.expire() }

// RevokeKey makes the service account's key unknown, as an operator can in
// Google's console: no access token is given for it any more.
func (s *FCM) RevokeKey() { s.oauth.revoke() }

// Inject queues a fault, about messages or about access tokens. Faults are
// used up in the order they were queued.
func (s *FCM) Inject(f Fault) {
	if f.OAuth {
		s.oauthFaults.add(f)
		return
	}
	s.faults.add(f)
}

// ClearFaults forgets all that is to go wrong, the latencies too.
func (s *FCM) ClearFaults() {
	s.oauthFaults.clear()
	s.faults.clear()
}

// After does what an action of the control API's POST /faults does, once, when
// n more pushes have been accepted and answered. It reports whether there is
// such an action.
func (s *FCM) After(n int, action string) bool {
	act, known := s.actions()[action]
	return s.after(n, act, known)
}

// actions implements steered.
func (s *FCM) actions() map[string]func() {
	out := s.networkActions()
	out["clear"] = s.ClearFaults
	out["expire_tokens"] = s.ExpireTokens
	return out
}
