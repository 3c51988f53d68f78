package fcm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"firebase.google.com/go/v4/messaging"
)

// maxAnswer bounds the body of an answer. Google's have a few hundred bytes.
const maxAnswer = 64 << 10

// answer is what came back for one attempt: a status with Google's words, or an
// error.
type answer struct {
	status int
	code   string        // the error code of FCM's (ErrorCode), or ""
	kind   string        // the status of Google's error model, such as PERMISSION_DENIED, or ""
	detail string        // its reason (ErrorInfo), such as SERVICE_DISABLED, or ""
	named  bool          // a push of that name was made: it is accepted
	after  time.Duration // Retry-After; 0 when it was not there
	err    error
}

// call is one call of Google's client on its way to a line. It is owned by
// [call.send].
type call struct {
	line   *line
	token  string // access token
	sent   bool
	status int
	header http.Header
	body   []byte
	err    error
}

type callKey struct{}

// send lets Google's client send m once on ln, for which the gate has been
// entered, and leaves the gate.
func send(ctx context.Context, sdk *messaging.Client, ln *line, token string, m *messaging.Message, dry bool) answer {
	c := &call{line: ln, token: token}
	defer func() { ln.leave(c.status != 0) }()
	ctx = context.WithValue(ctx, callKey{}, c)
	do := sdk.Send
	if dry {
		do = sdk.SendDryRun
	}
	name, err := do(ctx, m)
	switch {
	case c.err != nil:
		return answer{err: c.err}
	case c.status == 0: // it never came to the wire
		if err == nil {
			err = errors.New("nothing was sent")
		}
		return answer{err: err}
	}
	return c.answer(name, err)
}

// answer reads what Google said.
func (c *call) answer(name string, err error) answer {
	a := answer{
		status: c.status, after: retryAfter(c.header), code: codeOf(err),
		named: c.status == http.StatusOK && err == nil && name != "",
	}
	if a.status != http.StatusOK {
		a.kind, a.detail = wordsOf(c.body)
	}
	return a
}

// codes are the errors of FCM's that Google's client knows.
var codes = []struct {
	is   func(error) bool
	code string
}{
	{messaging.IsUnregistered, "UNREGISTERED"},
	{messaging.IsInvalidArgument, "INVALID_ARGUMENT"},
	{messaging.IsSenderIDMismatch, "SENDER_ID_MISMATCH"},
	{messaging.IsQuotaExceeded, "QUOTA_EXCEEDED"},
	{messaging.IsThirdPartyAuthError, "THIRD_PARTY_AUTH_ERROR"},
	{messaging.IsUnavailable, "UNAVAILABLE"},
	{messaging.IsInternal, "INTERNAL"},
}

func codeOf(err error) string {
	for _, c := range codes {
		if c.is(err) {
			return c.code
		}
	}
	return ""
}

// wordsOf reads Google's error model, of which only words in capitals are
// taken: the message may repeat what was sent.
func wordsOf(body []byte) (status, reason string) {
	var e struct {
		Error struct {
			Status  string `json:"status"`
			Details []struct {
				Reason string `json:"reason"`
			} `json:"details"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &e) != nil {
		return "", ""
	}
	for _, d := range e.Error.Details {
		if reason == "" {
			reason = word(d.Reason)
		}
	}
	return word(e.Error.Status), reason
}

// word returns s if it is a word of Google's error model, else "".
func word(s string) string {
	if len(s) > 64 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
		return ""
	}
	return s
}

// wire is the transport below Google's client. That one would send again by
// itself, after 0, 1, 2 and 4 seconds, whatever answers 503 and whatever fails
// in the network, where Google itself asks for ten seconds at least; and a call
// that is sent again rings twice. So the wire keeps what really came back in the
// [call], and hands on an answer that is not tried again. Should it be tried all
// the same, nothing is sent.
type wire struct{}

var errNoCall = errors.New("fcm: no call under way")

// RoundTrip implements [http.RoundTripper].
func (wire) RoundTrip(r *http.Request) (*http.Response, error) {
	c, ok := r.Context().Value(callKey{}).(*call)
	if !ok {
		return nil, errNoCall
	}
	if !c.sent {
		c.sent = true
		c.carry(r)
	} else if r.Body != nil {
		_ = r.Body.Close()
	}
	return c.final(r), nil
}

// carry takes r to the line and keeps what comes back.
func (c *call) carry(r *http.Request) {
	out := *r
	out.Header = maps.Clone(r.Header)
	out.Header.Set("Authorization", "Bearer "+c.token)
	status, header, body, err := c.line.exchange(&out)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		c.err = err
		return
	}
	c.status, c.header, c.body = status, header, body
}

// final is the answer as Google's client gets it: with the true body, and a
// status it does not try again on.
func (c *call) final(r *http.Request) *http.Response {
	status := c.status
	if status == 0 || status == http.StatusServiceUnavailable {
		status = http.StatusInternalServerError
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(bytes.NewReader(c.body)), ContentLength: int64(len(c.body)),
	}
}
