package webpush

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	library "github.com/SherClockHolmes/webpush-go"
)

// keepHeader is how long a push service is shown the same token. The library
// signs it for twelve hours; RFC 8292 §2 allows a day.
const keepHeader = 6 * time.Hour

// introduction is the Authorization header that one push service gets (RFC 8292
// §3). Signing costs several times what sending does, and its claims are the
// service's origin, ours and a time: it is kept.
type introduction struct {
	mu     sync.Mutex
	header string    // guarded by mu; "" when there is none
	key    *vapidKey // guarded by mu; what signed it
	signed time.Time // guarded by mu
}

// get returns the header for origin, with the key given.
func (i *introduction) get(origin, subject string, key *vapidKey) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	if age := now.Sub(i.signed); i.header != "" && i.key == key && age >= 0 && age < keepHeader {
		return i.header, nil
	}
	header, err := sign(origin, subject, key)
	if err != nil {
		return "", err
	}
	i.header, i.key, i.signed = header, key, now
	return header, nil
}

// reader is the HTTP client that the library is lent: it keeps the header of
// the request and sends nothing.
type reader struct{ header string }

// Do implements the library's HTTPClient.
func (r *reader) Do(req *http.Request) (*http.Response, error) {
	r.header = req.Header.Get("Authorization")
	return &http.Response{StatusCode: http.StatusCreated, Body: http.NoBody}, nil
}

// sign lets the library make a push to origin with nothing in it, and takes
// the header.
func sign(origin, subject string, key *vapidKey) (string, error) {
	var r reader
	resp, err := library.SendNotification(nil, &library.Subscription{
		Endpoint: origin + "/",
		Keys:     library.Keys{P256dh: key.public, Auth: base64.RawURLEncoding.EncodeToString(make([]byte, 16))},
	}, &library.Options{
		HTTPClient:      &r,
		Subscriber:      strings.TrimPrefix(subject, "mailto:"), // which the library puts before what is not https
		VAPIDPublicKey:  key.public,
		VAPIDPrivateKey: key.private,
	})
	if err != nil {
		return "", err
	}
	_ = resp.Body.Close()
	if r.header == "" {
		return "", errors.New("no VAPID header was made")
	}
	return r.header, nil
}
