package pushtest

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// request is one push as it came in.
type request struct {
	conn   *conn
	at     time.Time         // by the machine's clock
	now    time.Time         // by the service's
	header map[string]string // pseudo-headers included
	twice  string            // name of a header that was there twice
	body   []byte
	large  bool // the body was cut

	// Found by the rules.
	token  string
	claims claims
	since  time.Time // of a 410
	call   string    // UUID of a call
}

// A rule returns the status and reason with which APNs refuses, or 0.
type rule func(*request) (status int, reason string)

// rules are Apple's ("Sending notification requests to APNs", "Handling
// notification responses from APNs", "Establishing a token-based connection"),
// in the order they are checked: the request, who sends it, what it says, and
// to whom.
var rules = []rule{
	ruleMethod, rulePath, ruleDuplicates,
	ruleProviderToken, ruleKeyOfConnection, ruleTokenUpdates,
	rulePushType, ruleTopic, ruleExpiration, rulePriority, ruleID, ruleCollapseID,
	ruleBody,
	ruleDevice, ruleTokenRate,
}

func ruleMethod(r *request) (int, string) {
	if r.header[":method"] != http.MethodPost {
		return http.StatusMethodNotAllowed, "MethodNotAllowed"
	}
	return 0, ""
}

func rulePath(r *request) (int, string) {
	token, ok := strings.CutPrefix(r.header[":path"], "/3/device/")
	switch {
	case !ok && r.header[":path"] == "/3/device", ok && token == "":
		return http.StatusBadRequest, "MissingDeviceToken"
	case !ok || strings.Contains(token, "/"):
		return http.StatusNotFound, "BadPath"
	}
	r.token = token
	return 0, ""
}

func ruleDuplicates(r *request) (int, string) {
	if r.twice != "" {
		return http.StatusBadRequest, "DuplicateHeaders"
	}
	return 0, ""
}

func ruleProviderToken(r *request) (int, string) {
	kind, token, _ := strings.Cut(r.header["authorization"], " ")
	if !strings.EqualFold(kind, "bearer") || token == "" {
		return http.StatusForbidden, "MissingProviderToken"
	}
	c, ok := r.conn.sim.keys.verify(token)
	if !ok {
		return http.StatusForbidden, "InvalidProviderToken"
	}
	if age := r.now.Sub(c.issued); age > tokenLife || age < -tokenLife {
		return http.StatusForbidden, "ExpiredProviderToken"
	}
	r.claims = c
	return 0, ""
}

// ruleKeyOfConnection: the first push binds the connection to its key, and
// the key's topics are those of that moment.
func ruleKeyOfConnection(r *request) (int, string) {
	s := r.conn.sim
	if env := r.claims.key.Env; env != "" && env != s.cfg.Environment {
		if s.cfg.ShortReason {
			return http.StatusForbidden, "BadEnvironmentKeyInToken"
		}
		return http.StatusForbidden, "BadEnvironmentKeyIdInToken"
	}
	bound, ok := r.conn.bind(r.claims)
	switch {
	case ok:
		r.claims.key = bound.key
		return 0, ""
	case bound.team != r.claims.team:
		return http.StatusForbidden, "InvalidProviderToken"
	default:
		return http.StatusForbidden, "UnrelatedKeyIdInToken"
	}
}

func ruleTokenUpdates(r *request) (int, string) {
	_, token, _ := strings.Cut(r.header["authorization"], " ")
	if !r.conn.updates.allow(token, r.now) {
		return http.StatusTooManyRequests, "TooManyProviderTokenUpdates"
	}
	return 0, ""
}

// pushTypes are the types with what their topics end with.
var pushTypes = map[string]string{
	"alert": "", "background": "", "mdm": "",
	"voip": ".voip", "location": ".location-query", "complication": ".complication",
	"fileprovider": ".pushkit.fileprovider", "liveactivity": ".push-type.liveactivity",
	"pushtotalk": ".voip-ptt", "controls": ".push-type.controls", "widgets": ".push-type.widgets",
}

func rulePushType(r *request) (int, string) {
	kind := r.header["apns-push-type"]
	suffix, known := pushTypes[kind]
	topic := r.header["apns-topic"]
	switch {
	case !known:
		return http.StatusBadRequest, "InvalidPushType"
	case topic == "":
		return http.StatusBadRequest, "MissingTopic"
	case !strings.HasSuffix(topic, suffix):
		return http.StatusBadRequest, "InvalidPushType"
	case suffix == "" && strings.HasSuffix(topic, ".voip"):
		return http.StatusBadRequest, "DeviceTokenNotForTopic"
	}
	return 0, ""
}

func ruleTopic(r *request) (int, string) {
	bundle := strings.TrimSuffix(r.header["apns-topic"], pushTypes[r.header["apns-push-type"]])
	if !strings.Contains(bundle, ".") || strings.ContainsAny(bundle, " /") {
		return http.StatusBadRequest, "BadTopic"
	}
	if !r.claims.key.topicAllowed(bundle) {
		return http.StatusBadRequest, "TopicDisallowed"
	}
	return 0, ""
}

// ruleExpiration also flags what APNs takes without a word: a time that is no
// absolute one, and a call that may ring long after it ended.
func ruleExpiration(r *request) (int, string) {
	text, given := r.header["apns-expiration"]
	call := r.header["apns-push-type"] == "voip"
	if !given {
		if call {
			r.conn.sim.violate(r.conn.id, "voip push without apns-expiration may ring after the call")
		}
		return 0, ""
	}
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil || at < 0 {
		return http.StatusBadRequest, "BadExpirationDate"
	}
	left := time.Unix(at, 0).Sub(r.now)
	switch {
	case at > 0 && left < 0:
		r.conn.sim.violate(r.conn.id, "apns-expiration %d is in the past; seconds since 1970 are meant", at)
	case at > 0 && call && left > time.Minute:
		r.conn.sim.violate(r.conn.id, "voip push kept for %v may ring after the call", left)
	}
	return 0, ""
}

func rulePriority(r *request) (int, string) {
	p := r.header["apns-priority"]
	switch p {
	case "", "10", "5", "1":
	default:
		return http.StatusBadRequest, "BadPriority"
	}
	if r.header["apns-push-type"] == "background" && p != "5" {
		return http.StatusBadRequest, "BadPriority"
	}
	return 0, ""
}

func ruleID(r *request) (int, string) {
	if id := r.header["apns-id"]; id != "" && !canonicalUUID(id) {
		return http.StatusBadRequest, "BadMessageId"
	}
	return 0, ""
}

func canonicalUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		digit := s[i] >= '0' && s[i] <= '9' || s[i] >= 'a' && s[i] <= 'f'
		if dash && s[i] != '-' || !dash && !digit {
			return false
		}
	}
	return true
}

func ruleCollapseID(r *request) (int, string) {
	if len(r.header["apns-collapse-id"]) > 64 {
		return http.StatusBadRequest, "BadCollapseId"
	}
	return 0, ""
}

func ruleBody(r *request) (int, string) {
	limit := 4096
	if r.header["apns-push-type"] == "voip" {
		limit = 5120
	}
	switch {
	case len(r.body) == 0:
		return http.StatusBadRequest, "PayloadEmpty"
	case r.large || len(r.body) > limit:
		return http.StatusRequestEntityTooLarge, "PayloadTooLarge"
	}
	var p, aps map[string]json.RawMessage
	if json.Unmarshal(r.body, &p) != nil || json.Unmarshal(p["aps"], &aps) != nil || aps == nil {
		r.conn.sim.violate(r.conn.id, "payload is no JSON object with an object aps")
	}
	switch r.header["apns-push-type"] {
	case "background":
		for _, key := range []string{"alert", "sound", "badge"} {
			if aps[key] != nil {
				r.conn.sim.violate(r.conn.id, "background push with %s", key)
			}
		}
	case "voip":
		_ = json.Unmarshal(p[r.conn.sim.cfg.CallKey], &r.call) // what is no string names no call
	}
	return 0, ""
}

func ruleDevice(r *request) (int, string) {
	s := r.conn.sim
	raw, err := hex.DecodeString(r.token)
	if err != nil || len(raw) < 32 || len(raw) > 100 {
		return http.StatusBadRequest, "BadDeviceToken"
	}
	d, known := s.tokens.get(r.token)
	switch {
	case !known && s.cfg.AnyToken:
		return 0, ""
	case !known, d.Env != "" && d.Env != s.cfg.Environment:
		return http.StatusBadRequest, "BadDeviceToken"
	case d.Topic != "" && d.Topic != r.header["apns-topic"]:
		return http.StatusBadRequest, "DeviceTokenNotForTopic"
	case d.Expired:
		r.since = r.now
		return http.StatusGone, "ExpiredToken"
	case !d.Unregistered.IsZero():
		r.since = d.Unregistered
		return http.StatusGone, "Unregistered"
	}
	return 0, ""
}

func ruleTokenRate(r *request) (int, string) {
	if !r.conn.sim.rates.push(r.token, r.conn.sim.cfg.TokenRate, r.at) {
		return http.StatusTooManyRequests, "TooManyRequests"
	}
	return 0, ""
}
