package pushtest

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// WebPushConfig is how a simulated push service behaves. The zero value is a
// strict one with no limits beyond RFC 8030's.
type WebPushConfig struct {
	Hosts      []string // names in the certificate beside localhost's
	MaxStreams uint32   // requests at a time on a connection; 0 is 100
	// GoAwayAfter ends each connection after so many requests; 0 never.
	GoAwayAfter int
	// MaxBody is the largest body taken; 0 is 4096 bytes, the least that RFC
	// 8030 §7.2 allows.
	MaxBody int
	// MaxTTL is how long a message is kept at most; 0 is four weeks.
	MaxTTL time.Duration
	// PerMinute is how many messages a subscription takes; 0 any number.
	PerMinute int
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger // nil discards
}

// WebPushMessage is one request as the push service saw it, accepted or not,
// with what the user agent made of its body.
type WebPushMessage struct {
	At       time.Time
	Endpoint string // whole, and a secret; String shows its end
	Location string // path of the message; "" when refused
	TTL      time.Duration
	TTLText  string // as sent; "" when absent
	Urgency  string // as sent; "" when absent
	Topic    string
	Body     []byte // as sent; of a refused one, the first 8 KiB
	Plain    []byte // what the body held
	Sealed   string // why the body did not open; "" when it did or there was none
	Key      string // the application server's, from Authorization
	Subject  string // who the application server is
	Expires  time.Time
	Status   int
	Reason   string // "" when accepted
	Conn     int    // number of the connection, from 1
}

// String is one line without the endpoint and without the contents.
func (m WebPushMessage) String() string {
	out := fmt.Sprintf("%s urgency=%s ttl=%s endpoint=%s bytes=%d status=%d", m.At.Format("15:04:05.000"),
		m.Urgency, m.TTLText, tail(m.Endpoint), len(m.Body), m.Status)
	if m.Topic != "" {
		out += fmt.Sprintf(" topic=%q", m.Topic)
	}
	if m.Sealed != "" {
		out += fmt.Sprintf(" sealed=%q", m.Sealed)
	}
	if m.Reason != "" {
		out += fmt.Sprintf(" reason=%q", m.Reason)
	}
	return out
}

// Subscription is what a user agent gives to its application (Push API,
// PushSubscription). All of it is secret.
type Subscription struct {
	Endpoint string
	P256dh   string // the user agent's public key, base64url
	Auth     string // the authentication secret, base64url
}

// MarshalJSON implements [json.Marshaler] as PushSubscription.toJSON does.
func (s Subscription) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"endpoint": s.Endpoint, "keys": map[string]string{"p256dh": s.P256dh, "auth": s.Auth},
	})
}

// WebPush is a simulated push service (RFC 8030 with RFC 8292) with the user
// agents behind it (RFC 8291). Its methods are safe for concurrent use.
type WebPush struct {
	*web
	// OnPush is called for each accepted message, in a goroutine of its own as
	// the answer leaves. Set it before Serve, which waits for it.
	OnPush func(WebPushMessage)
	// OnAnswer is called for every request to a subscription, refused ones
	// included, before the answer leaves. It must not block.
	OnAnswer func(WebPushMessage)

	// Static after NewWebPush.
	cfg   WebPushConfig
	meter meter // has its own lock

	mu    sync.Mutex            // beside web's
	sent  []WebPushMessage      // guarded by mu
	table map[string]*userAgent // guarded by mu; by the endpoint's path
}

// userAgent is one subscription and what its owner received. Guarded by
// WebPush.mu.
type userAgent struct {
	Subscription
	private *ecdh.PrivateKey
	auth    []byte
	key     string // the only application server key taken; "" takes any
	gone    int    // status since it was unsubscribed
	offline bool
	minute  window
	box     mailbox[WebPushMessage]
	got     []WebPushMessage
}

// NewWebPush makes a simulator with a CA of its own. It serves when told to.
func NewWebPush(cfg WebPushConfig) *WebPush {
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 100
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 4096
	}
	if cfg.MaxTTL == 0 {
		cfg.MaxTTL = longestTTL
	}
	s := &WebPush{
		web: newWeb("webpush simulator", cfg.Log, cfg.Now, cfg.Hosts...),
		cfg: cfg, table: make(map[string]*userAgent),
	}
	s.streams, s.goAwayAfter = cfg.MaxStreams, cfg.GoAwayAfter
	mux := http.NewServeMux()
	mux.HandleFunc("/push/{id}", s.push)
	s.handler = mux
	return s
}

// NewSubscription subscribes a user agent. Only the application server whose
// public key is given, base64url, may push to it (RFC 8292 §4); "" lets any.
// Serve must have begun, for the endpoint holds the address.
func (s *WebPush) NewSubscription(applicationServerKey string) (Subscription, error) {
	url := s.URL()
	if url == "" {
		return Subscription{}, errors.New("webpush simulator: it does not serve yet: an endpoint holds its address")
	}
	if applicationServerKey != "" {
		if _, err := parsePoint(applicationServerKey); err != nil {
			return Subscription{}, fmt.Errorf("webpush simulator: application server key: %w", err)
		}
	}
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return Subscription{}, fmt.Errorf("webpush simulator: make key: %w", err)
	}
	var random [16 + 24]byte
	_, _ = rand.Read(random[:]) // never fails
	enc := base64.RawURLEncoding.EncodeToString
	path := "/push/" + enc(random[16:])
	ua := &userAgent{
		Subscription: Subscription{Endpoint: url + path, P256dh: enc(private.PublicKey().Bytes()), Auth: enc(random[:16])},
		private:      private, auth: random[:16], key: strings.TrimRight(applicationServerKey, "="),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.table) >= maxTokens {
		return Subscription{}, errors.New("webpush simulator: too many subscriptions")
	}
	s.table[path] = ua
	return ua.Subscription, nil
}

// find returns the user agent behind an endpoint. Guarded by mu.
func (s *WebPush) find(endpoint string) *userAgent {
	i := strings.LastIndex(endpoint, "/push/")
	if i < 0 {
		return nil
	}
	return s.table[endpoint[i:]]
}

// Unsubscribe ends a subscription: messages get status, 404 or 410 (RFC 8030
// §7.3). It reports whether there is such a subscription.
func (s *WebPush) Unsubscribe(endpoint string, status int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ua := s.find(endpoint)
	if ua != nil {
		ua.gone = status
	}
	return ua != nil
}

// SetOffline says whether the user agent is away. When it is back it receives
// what was stored for it. It reports whether there is such a subscription.
func (s *WebPush) SetOffline(endpoint string, offline bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ua := s.find(endpoint)
	if ua == nil {
		return false
	}
	ua.offline = offline
	if !offline {
		stored, _ := ua.box.take(s.now())
		for _, m := range stored {
			ua.receive(m)
		}
	}
	return true
}

// Delivered returns what the user agent received, oldest first. The last
// thousand are kept.
func (s *WebPush) Delivered(endpoint string) []WebPushMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ua := s.find(endpoint); ua != nil {
		return slices.Clone(ua.got)
	}
	return nil
}

func (u *userAgent) receive(m WebPushMessage) {
	if len(u.got) >= maxDeliveries {
		u.got = slices.Delete(u.got, 0, maxDeliveries/10)
	}
	u.got = append(u.got, m)
}

// deliver gives a message to the user agent, now or when it is back.
func (s *WebPush) deliver(m WebPushMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ua := s.find(m.Endpoint)
	switch {
	case ua == nil:
	case !ua.offline:
		ua.receive(m)
	case m.TTL > 0:
		now := s.now()
		if len(ua.box.items) >= maxDeliveries { // the oldest goes
			ua.box.items = ua.box.items[1:]
		}
		ua.box.put(now, stored[WebPushMessage]{key: m.Topic, expires: now.Add(m.TTL), what: m})
	}
}

// Pushes returns the requests to subscriptions, oldest first, refused ones
// included. The last ten thousand are kept.
func (s *WebPush) Pushes() []WebPushMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

// Accepted returns the messages that were answered with 201.
func (s *WebPush) Accepted() []WebPushMessage {
	return slices.DeleteFunc(s.Pushes(), func(m WebPushMessage) bool { return m.Status != http.StatusCreated })
}

func (s *WebPush) record(m WebPushMessage) {
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

// After does what an action of the control API's POST /faults does, once, when
// n more pushes have been accepted and answered. It reports whether there is
// such an action.
func (s *WebPush) After(n int, action string) bool {
	act, known := s.actions()[action]
	return s.after(n, act, known)
}

// actions implements steered.
func (s *WebPush) actions() map[string]func() {
	out := s.networkActions()
	out["clear"] = s.ClearFaults
	return out
}
