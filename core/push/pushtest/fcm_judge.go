package pushtest

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxPayload = 4096
	// longestTTL is also what a message without a ttl gets.
	longestTTL = 28 * 24 * time.Hour
)

// parseTTL reads a ttl such as "0s" or "3.5s", of whatever length.
func parseTTL(s string) (time.Duration, bool) {
	digits, ok := strings.CutSuffix(s, "s")
	whole, part, fraction := strings.Cut(digits, ".")
	if !ok || whole == "" || len(whole) > 9 || fraction && (part == "" || len(part) > 9) {
		return 0, false
	}
	if strings.Trim(whole+part, "0123456789") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(digits, 64)
	return time.Duration(f * float64(time.Second)), err == nil
}

// fcmSend is a request to send, judged step by step.
type fcmSend struct {
	sim  *FCM
	http *http.Request
	now  time.Time

	FCMMessage
	field fcmMessage
}

// fcmMessage is what the rules look at. Names of two words come in two
// spellings.
type fcmMessage struct {
	Name         string            `json:"name"`
	Token        string            `json:"token"`
	Topic        string            `json:"topic"`
	Condition    string            `json:"condition"`
	Data         map[string]string `json:"data"`
	Notification map[string]string `json:"notification"`
	Android      struct {
		CollapseKey  string            `json:"collapse_key"`
		CollapseKey2 string            `json:"collapseKey"`
		Priority     string            `json:"priority"`
		TTL          string            `json:"ttl"`
		Data         map[string]string `json:"data"`
		Notification json.RawMessage   `json:"notification"`
	} `json:"android"`
}

// A fcmRule returns how FCM refuses, or nil.
type fcmRule func(*fcmSend) *fcmError

// fcmRules are Google's (REST reference of projects.messages, ErrorCode,
// "Throttling and quotas"), in the order they are checked.
var fcmRules = []fcmRule{
	ruleFCMAccess, ruleFCMProject, ruleFCMProjectQuota, // refusals below count too
	ruleFCMShape, ruleFCMTarget, ruleFCMData, ruleFCMSize, ruleFCMTTL,
	ruleFCMToken, ruleFCMDeviceQuota,
}

func ruleFCMAccess(r *fcmSend) *fcmError {
	if !r.sim.oauth.authorized(r.http, r.now) {
		return errUnauthenticated
	}
	return nil
}

func ruleFCMProject(r *fcmSend) *fcmError {
	if r.http.PathValue("project") != r.sim.cfg.Project {
		return errNoProject
	}
	return nil
}

func ruleFCMShape(r *fcmSend) *fcmError {
	if !json.Valid(r.Body) {
		return badRequest("", "Invalid JSON payload received. Unexpected token.")
	}
	if fault := sendRequest("", r.Body); fault != "" {
		return badRequest("message", fault)
	}
	var in struct {
		ValidateOnly  bool       `json:"validate_only"`
		ValidateOnly2 bool       `json:"validateOnly"`
		Message       fcmMessage `json:"message"`
	}
	if err := json.Unmarshal(r.Body, &in); err != nil {
		return badRequest("message", "Invalid JSON payload received. "+err.Error())
	}
	m := in.Message
	r.field, r.Token, r.TTLText = m, m.Token, m.Android.TTL
	r.ValidateOnly = in.ValidateOnly || in.ValidateOnly2
	r.CollapseKey = cmp.Or(m.Android.CollapseKey, m.Android.CollapseKey2)
	r.Data = m.Data
	if len(m.Android.Data) > 0 { // it overrides
		r.Data = m.Android.Data
	}
	r.Notification = len(m.Notification) > 0 || len(m.Android.Notification) > 0
	r.Priority = "normal"
	if strings.EqualFold(m.Android.Priority, "high") || m.Android.Priority == "" && r.Notification {
		r.Priority = "high"
	}
	return nil
}

func ruleFCMTarget(r *fcmSend) *fcmError {
	n := 0
	for _, s := range []string{r.field.Token, r.field.Topic, r.field.Condition} {
		if s != "" {
			n++
		}
	}
	switch {
	case n == 0:
		return invalidArgument("message", "Recipient of the message is not set.")
	case n > 1:
		return badRequest("message", "Invalid value at 'message' (oneof), oneof field 'target' is already set.")
	}
	return nil
}

// ruleFCMData refuses the keys that FCM keeps to itself.
func ruleFCMData(r *fcmSend) *fcmError {
	for key := range r.Data {
		if key == "" || key == "from" || key == "message_type" || key == "collapse_key" ||
			strings.HasPrefix(key, "google") || strings.HasPrefix(key, "gcm") {
			return invalidArgument("message.data", "Invalid data payload key: "+key)
		}
	}
	return nil
}

func ruleFCMSize(r *fcmSend) *fcmError {
	size := len(r.field.Android.Notification)
	for _, m := range []map[string]string{r.Data, r.field.Notification} {
		for k, v := range m {
			size += len(k) + len(v)
		}
	}
	if size > maxPayload {
		return invalidArgument("message", "Android message is too big")
	}
	return nil
}

func ruleFCMTTL(r *fcmSend) *fcmError {
	r.TTL = longestTTL
	if r.TTLText != "" {
		r.TTL, _ = parseTTL(r.TTLText) // the shape was right
	}
	if r.TTL > longestTTL {
		return invalidArgument("message.android.ttl", "Invalid ttl: must be from 0 to 2419200 seconds")
	}
	return nil
}

func ruleFCMToken(r *fcmSend) *fcmError {
	if r.Token == "" {
		return nil // a topic
	}
	if !wellFormedFCM(r.Token) {
		return errBadToken
	}
	a, known := r.sim.apps.get(r.Token)
	switch {
	case !known && r.sim.cfg.AnyToken:
		return nil
	case !known:
		return errBadToken
	case a.Project != "" && a.Project != r.sim.cfg.Project:
		return errSender
	case a.Unregistered, !a.LastSeen.IsZero() && r.now.Sub(a.LastSeen) >= staleAfter:
		return errUnregistered
	}
	return nil
}

// wellFormedFCM reports whether a registration token looks like one.
func wellFormedFCM(token string) bool {
	if len(token) < 20 || len(token) > maxPayload {
		return false
	}
	for _, c := range []byte(token) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' && c != ':' {
			return false
		}
	}
	return true
}

// wholeMessage tells messages apart by all that is in them.
func wholeMessage(m FCMMessage) string {
	sum := sha256.Sum256(m.Body)
	return string(sum[:])
}

// routes is what the simulator answers; all else is a page.
func (s *FCM) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /v1/projects/{project}/messages:send", s.send)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { writePage(w, http.StatusNotFound) })
	return mux
}

// send judges one message and answers.
func (s *FCM) send(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		writeFCM(w, badRequest("", fmt.Sprintf("Request payload size exceeds the limit: %d bytes.", large.Limit)))
		return
	} else if err != nil {
		return
	}
	m := &fcmSend{sim: s, http: r, now: s.now()}
	m.At, m.Body, m.Conn = m.now, body, connID(r)
	if !s.pause(r.Context()) {
		return
	}
	fault := m.judge()
	id := m.identity()
	s.watch(m, id)
	var f Fault
	if fault == nil {
		var faulty bool
		if f, faulty = s.faults.take(m.Token); faulty {
			fault = f.fcm()
		}
	} else if fault.status == http.StatusTooManyRequests {
		f.RetryAfter = int(s.cfg.RetryAfter.Seconds())
	}
	s.answer(w, r, m, id, fault, f)
}

func (m *fcmSend) judge() *fcmError {
	for _, rule := range fcmRules {
		if fault := rule(m); fault != nil {
			return fault
		}
	}
	return nil
}

// identity names the message for the retry meter and the device.
func (m *fcmSend) identity() string {
	if m.Token == "" {
		return ""
	}
	return m.Token + "\x00" + m.sim.cfg.Identity(m.FCMMessage)
}

// watch is the retry meter (ErrorCode: at least ten seconds before a retry,
// Retry-After where there is one, a minute after 429 without).
func (s *FCM) watch(m *fcmSend, id string) {
	if id == "" || m.ValidateOnly {
		return
	}
	last, early := s.meter.seen(id, m.now)
	if early <= 0 {
		return
	}
	s.violate("connection %d: message to %s sent again %v after status %d, %v too soon", m.Conn, tail(m.Token), m.now.Sub(last.at), last.status, early)
}
