package pushtest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// webPushSend is a request to a subscription, judged step by step.
type webPushSend struct {
	sim  *WebPush
	http *http.Request
	now  time.Time
	ua   *userAgent // set by ruleSubscription
	over bool       // the body was cut

	WebPushMessage
	wait time.Duration // Retry-After of a refusal
}

// A webPushRule returns how the push service refuses, or nil.
type webPushRule func(*webPushSend) *refusal

// webPushRules are those of RFC 8030 §5 and RFC 8292 §4, in the order they are
// checked.
var webPushRules = []webPushRule{
	ruleMethodPost, ruleSubscription, ruleVAPID, ruleOnce, ruleTTL, ruleUrgency, ruleWebTopic,
	ruleWebBody, ruleWebRate,
}

func ruleMethodPost(r *webPushSend) *refusal {
	if r.http.Method != http.MethodPost {
		return &refusal{http.StatusMethodNotAllowed, "a message is sent with POST"}
	}
	return nil
}

func ruleSubscription(r *webPushSend) *refusal {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	r.ua = r.sim.table[r.http.URL.Path]
	switch {
	case r.ua == nil:
		return &refusal{http.StatusNotFound, "no such subscription"}
	case r.ua.gone != 0:
		return &refusal{r.ua.gone, "the subscription has ended"}
	}
	return nil
}

func ruleVAPID(r *webPushSend) *refusal {
	field := r.http.Header.Get("Authorization")
	if field == "" && r.ua.key == "" {
		return nil // RFC 8292 §2: an application server need not say who it is
	}
	v, refused := parseVAPID(field, "https://"+r.http.Host, r.now)
	r.Key, r.Subject, r.Expires = v.key, v.subject, v.expires
	switch {
	case refused != nil:
		return refused
	case r.ua.key != "" && r.ua.key != v.key:
		return forbidden("the subscription is bound to another application server key")
	case v.subject == "":
		r.sim.violate("connection %d: VAPID token without sub: nobody to turn to (RFC 8292 §2.1)", r.Conn)
	}
	return nil
}

func ruleOnce(r *webPushSend) *refusal {
	for _, name := range []string{"Ttl", "Urgency", "Topic", "Authorization", "Content-Encoding"} {
		if len(r.http.Header[name]) > 1 {
			return &refusal{http.StatusBadRequest, name + ": is there twice"}
		}
	}
	return nil
}

func ruleTTL(r *webPushSend) *refusal {
	r.TTLText = r.http.Header.Get("TTL")
	if r.TTLText == "" {
		return &refusal{http.StatusBadRequest, "TTL: is needed (RFC 8030 §5.2)"}
	}
	seconds, err := strconv.ParseUint(r.TTLText, 10, 31)
	if err != nil || strings.HasPrefix(r.TTLText, "+") {
		return &refusal{http.StatusBadRequest, "TTL: must be whole seconds from 0 to 2147483647"}
	}
	r.TTL = min(time.Duration(seconds)*time.Second, r.sim.cfg.MaxTTL)
	return nil
}

func ruleUrgency(r *webPushSend) *refusal {
	r.Urgency = r.http.Header.Get("Urgency")
	switch r.Urgency {
	case "", "very-low", "low", "normal", "high":
		return nil
	}
	return &refusal{http.StatusBadRequest, "Urgency: must be very-low, low, normal or high"}
}

func ruleWebTopic(r *webPushSend) *refusal {
	r.Topic = r.http.Header.Get("Topic")
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(r.Topic) > 32 || strings.Trim(r.Topic, alphabet) != "" {
		return &refusal{http.StatusBadRequest, "Topic: must be at most 32 characters of base64url"}
	}
	return nil
}

// ruleWebBody opens the body as the user agent would. A push service cannot,
// and takes what does not open; such a message is a violation.
func ruleWebBody(r *webPushSend) *refusal {
	coding := r.http.Header.Get("Content-Encoding")
	switch {
	case r.over || len(r.Body) > r.sim.cfg.MaxBody:
		return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", r.sim.cfg.MaxBody)}
	case len(r.Body) == 0:
		return nil
	case coding != "aes128gcm":
		return &refusal{http.StatusBadRequest, "Content-Encoding: must be aes128gcm (RFC 8291 §4)"}
	}
	var err error
	if r.Plain, err = openWebPush(r.ua.private, r.ua.auth, r.Body); err != nil {
		r.Sealed = err.Error()
		r.sim.violate("connection %d: body for endpoint %s does not open: %v", r.Conn, tail(r.Endpoint), err)
	}
	return nil
}

func ruleWebRate(r *webPushSend) *refusal {
	limit := r.sim.cfg.PerMinute
	if limit == 0 {
		return nil
	}
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	w := &r.ua.minute
	if w.full(r.now, time.Minute, limit) {
		r.wait = max(time.Second, w.began.Add(time.Minute).Sub(r.now).Round(time.Second))
		return &refusal{http.StatusTooManyRequests, "too many messages for this subscription"}
	}
	w.n++
	return nil
}

// push judges one message and answers.
func (s *WebPush) push(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	if err != nil && !errors.As(err, &large) {
		return
	}
	m := &webPushSend{sim: s, http: r, now: s.now(), over: large != nil}
	m.At, m.Body, m.Conn, m.Endpoint = m.now, body, connID(r), s.URL()+r.URL.Path
	if !s.pause(r.Context()) {
		return
	}
	refused := m.judge()
	id := m.identity()
	if last, early := s.meter.seen(id, m.now); early > 0 {
		s.violate("connection %d: message to endpoint %s sent again %v after status %d, %v too soon", m.Conn, tail(m.Endpoint), m.now.Sub(last.at), last.status, early)
	}
	var f Fault
	if refused == nil {
		f, _ = s.faults.take(m.Endpoint)
		if f.Location != "" && f.Status == 0 {
			f.Status = http.StatusTemporaryRedirect
		}
		if status, reason, _ := f.result(); status != http.StatusOK {
			refused = &refusal{status, reason}
		}
	} else {
		f.RetryAfter = int(m.wait.Seconds())
	}
	s.answer(w, m, id, refused, f)
}

func (m *webPushSend) judge() *refusal {
	for _, rule := range webPushRules {
		if refused := rule(m); refused != nil {
			return refused
		}
	}
	return nil
}

// identity names the message for the retry meter: the body is sealed anew for
// each attempt, so what it holds counts.
func (m *webPushSend) identity() string {
	content := m.Plain
	if content == nil {
		content = m.Body
	}
	sum := sha256.Sum256(content)
	return m.Endpoint + "\x00" + m.Topic + "\x00" + string(sum[:])
}

// answer delivers the message where it was accepted, or where the fault says
// so, and answers.
func (s *WebPush) answer(w http.ResponseWriter, m *webPushSend, id string, refused *refusal, f Fault) {
	m.Status = http.StatusCreated
	if refused != nil {
		m.Status, m.Reason = refused.status, refused.reason
		if m.Reason == "" {
			m.Reason = http.StatusText(refused.status)
		}
	} else {
		m.Location = "/message/" + randomHex(16)
	}
	if refused == nil && !f.Drop || f.Delivered {
		s.deliver(m.WebPushMessage)
	}
	s.record(m.WebPushMessage) // before the client can know
	if f.Drop {
		<-m.http.Context().Done()
		return
	}
	s.meter.answered(id, s.now(), m.Status, time.Duration(f.RetryAfter)*time.Second)
	setRetryAfter(w, f)
	if f.Location != "" {
		w.Header().Set("Location", f.Location)
	}
	switch {
	case f.Reset:
		w.WriteHeader(m.Status)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case f.HTML:
		writePage(w, m.Status)
	case refused != nil:
		if refused.status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "vapid")
		}
		http.Error(w, m.Reason, m.Status)
	default:
		w.Header().Set("Location", s.URL()+m.Location)
		w.Header().Set("TTL", strconv.FormatInt(int64(m.TTL.Seconds()), 10))
		w.WriteHeader(m.Status)
	}
	if s.OnAnswer != nil {
		s.OnAnswer(m.WebPushMessage)
	}
	if refused == nil {
		s.accepted(func() {
			if s.OnPush != nil {
				s.OnPush(m.WebPushMessage)
			}
		})
	}
}
