package fcm

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"firebase.google.com/go/v4/messaging"

	"sallyport/core/push"
)

const (
	// maxValue bounds a registration token. Google's have about 160 characters,
	// and may be of any length.
	maxValue = 4096
	// maxTTL is the most that FCM keeps a message: 28 days.
	maxTTL = 28 * 24 * time.Hour
)

// message translates n, or says why Google would refuse it. It never holds a
// notification of FCM's own: the app decides what is shown.
func message(n push.Notification, now time.Time) (_ *messaging.Message, reason string) {
	if v := n.Token.Value; v == "" || len(v) > maxValue || !printable(v) {
		return nil, "INVALID_ARGUMENT: not a registration token (not sent)"
	}
	if reason := faults(n.Data); reason != "" {
		return nil, reason
	}
	ttl := lifetime(n, now)
	android := &messaging.AndroidConfig{Priority: "high", TTL: &ttl}
	if !n.Urgent && (n.Passive || n.Background) {
		android.Priority = "normal"
	}
	if n.Background {
		// Only a request to register may replace an earlier one: of calls and
		// messages each counts, and FCM allows few replacements (§ collapsible).
		android.CollapseKey = collapseKey
	}
	return &messaging.Message{Token: n.Token.Value, Data: n.Data, Android: android}, ""
}

// collapseKey is the only one there is, of the four that FCM allows a device.
const collapseKey = "register"

// lifetime is how long FCM may keep n, in whole seconds.
func lifetime(n push.Notification, now time.Time) time.Duration {
	if n.Urgent || n.Expiration.IsZero() {
		return 0
	}
	return max(0, min(n.Expiration.Sub(now), maxTTL)).Truncate(time.Second)
}

// faults says what is wrong with data, by FCM's rules, or "".
func faults(data map[string]string) string {
	size := 0
	for k, v := range data {
		if reserved(k) {
			return fmt.Sprintf("INVALID_ARGUMENT: %q is a reserved key (not sent)", k)
		}
		size += len(k) + len(v)
	}
	switch {
	case size == 0:
		return "INVALID_ARGUMENT: no data (not sent)"
	case size > push.MaxMessage:
		return fmt.Sprintf("INVALID_ARGUMENT: %d bytes of data, at most %d (not sent)", size, push.MaxMessage)
	}
	return ""
}

// reserved are the keys that FCM keeps to itself.
func reserved(key string) bool {
	return key == "from" || key == "message_type" || strings.HasPrefix(key, "google") || strings.HasPrefix(key, "gcm")
}

// printable reports whether s is of visible ASCII.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// dateOf is when an answer was given, by the clock of who gave it.
func dateOf(h http.Header) time.Time {
	t, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t
}

func retryAfter(h http.Header) time.Duration { return push.RetryAfter(h, time.Now()) }
