package webpush

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/aes128gcm"
)

// maxTTL is the longest that a push service is asked to keep a push; RFC 8030
// names no bound, the large ones keep four weeks.
const maxTTL = 28 * 24 * time.Hour

// message is a push as it goes on the wire, but for who it is from.
type message struct {
	url    *url.URL
	target target
	header http.Header
	body   []byte // nil for none
}

// message makes the message of a notification. The error is a *forbidden for a
// token that leads where nothing may be sent, and [aes128gcm.ErrTooLong].
func (c *Client) message(n push.Notification, now time.Time) (*message, error) {
	u, t, err := c.policy.check(n.Token.Value)
	if err != nil {
		return nil, err
	}
	m := &message{url: u, target: t, header: http.Header{
		"Ttl":        {strconv.Itoa(ttl(n, now))},
		"Urgency":    {urgency(n)},
		"User-Agent": {"sallyport"},
	}}
	if topic := topic(n); topic != "" {
		m.header["Topic"] = []string{topic}
	}
	if n.Token.Key == "" || n.Token.Auth == "" {
		return m, nil // RFC 8599: the push itself is all there is to say
	}
	device, err := aes128gcm.ParseDevice(n.Token.Key, n.Token.Auth)
	if err != nil {
		c.log.Debug("push without content", "token", n.Token, "err", err)
		return m, nil
	}
	if m.body, err = device.Seal(n.Payload); err != nil {
		return nil, err
	}
	m.header["Content-Encoding"] = []string{"aes128gcm"}
	m.header["Content-Type"] = []string{"application/octet-stream"}
	return m, nil
}

// ttl is how long the push service may keep the push, in seconds (RFC 8030
// §5.2): never longer than it is of use.
func ttl(n push.Notification, now time.Time) int {
	until := n.Expiration
	if until.IsZero() && n.Urgent {
		until = n.Until
	}
	if until.IsZero() {
		return 0
	}
	return int(max(0, min(until.Sub(now), maxTTL)) / time.Second)
}

// urgency is what the device may be woken for (RFC 8030 §5.3): `high` even
// with a low battery, `low` only on Wi-Fi or power.
func urgency(n push.Notification) string {
	switch {
	case n.Urgent:
		return "high"
	case n.Passive:
		return "low"
	case n.Background || n.Priority < 10:
		return "normal"
	default:
		return "high"
	}
}

// topic lets a later note replace an earlier one that still waits at the push
// service (RFC 8030 §5.4). Its 32 characters tell who knows the conversation
// nothing that he could not ask, and others nothing.
func topic(n push.Notification) string {
	of := n.Conversation
	if of == "" {
		of = n.CollapseID
	}
	if of == "" || n.Urgent {
		return ""
	}
	sum := sha256.Sum256([]byte(of))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}

// request is the message as the request of one attempt.
func (m *message) request(ctx context.Context) (*http.Request, error) {
	// With no body at all the length is 0 (RFC 9110 §8.6).
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url.String(), bytes.NewReader(m.body))
	if err != nil {
		return nil, fmt.Errorf("push to %s: %w", m.target.host, err)
	}
	req.Header = m.header.Clone()
	return req, nil
}
