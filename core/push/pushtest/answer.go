package pushtest

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// answer judges a request and answers it.
func (c *conn) answer(id uint32, st *stream) {
	r := &st.request
	r.at, r.now = time.Now(), c.sim.now()
	status, reason := r.judge()
	fault, faulty := Fault{}, false
	if status == http.StatusOK {
		fault, faulty = c.sim.faults.take(r.token)
	}
	html := false
	if faulty {
		if fault.Drop {
			return
		}
		status, reason, html = fault.result()
	}
	// Counted before the answer is out: whoever has it and plans something for
	// after n more pushes means pushes after this one.
	var due []func()
	good := status == http.StatusOK && !fault.Reset
	if good && !c.frozen.Load() {
		due = c.sim.faults.due()
	}
	if c.frozen.Load() || !c.reply(id, r, response{status: status, reason: reason, html: html, reset: fault.Reset}) {
		return
	}
	p := r.push(status, reason)
	if c.sim.OnAnswer != nil {
		c.sim.OnAnswer(p)
	}
	if good {
		c.sim.accepted(p)
		for _, act := range due {
			act()
		}
	}
}

// accepted is what happens to a push after its answer.
func (s *APNs) accepted(p Push) {
	if s.OnPush != nil {
		s.OnPush(p)
	}
	d, _ := s.tokens.get(p.Token)
	s.settle(s.devices.accept(p, d, s.now()))
}

// result is what the fault makes of a push that was right.
func (f Fault) result() (status int, reason string, html bool) {
	switch {
	case f.HTML && f.Status == 0:
		return http.StatusBadGateway, "", true
	case f.Status != 0:
		return f.Status, f.Reason, f.HTML
	default:
		return http.StatusOK, "", false
	}
}

// judge applies the rules.
func (r *request) judge() (status int, reason string) {
	for _, rule := range rules {
		if status, reason := rule(r); status != 0 {
			return status, reason
		}
	}
	return http.StatusOK, ""
}

// push is the record of the request.
func (r *request) push(status int, reason string) Push {
	h := r.header
	_, bearer, _ := strings.Cut(h["authorization"], " ")
	return Push{
		At: r.at, Token: r.token, Topic: h["apns-topic"], PushType: h["apns-push-type"],
		ID: h["apns-id"], Priority: h["apns-priority"], Expiration: h["apns-expiration"],
		CollapseID: h["apns-collapse-id"], Payload: r.body,
		Status: status, Reason: reason, Conn: r.conn.id,
		KeyID: r.claims.keyID, TeamID: r.claims.team, Issued: r.claims.issued, Bearer: bearer,
		Call: r.call,
	}
}

// response is what goes back.
type response struct {
	status int
	reason string
	html   bool
	reset  bool
}

// reply records the push and sends the response with what follows from it for
// the connection: how many streams it may have, and whether it ends. It
// reports whether the client still waited.
func (c *conn) reply(id uint32, r *request, a response) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[id] == nil {
		return false
	}
	delete(c.streams, id)
	c.sim.record(r.push(a.status, a.reason)) // before the client can know
	c.allow(a)
	_ = c.locked(func() error { return c.frames(id, r, a) })
	if a.reason == "BadDeviceToken" {
		if c.bad++; c.bad >= c.sim.cfg.BadTokenLimit {
			c.goAwayLocked("BadDeviceToken")
		}
	}
	c.endSoon()
	return true
}

// allow changes how many streams the client may have, and tells it before the
// answer that is the cause. Guarded by mu.
func (c *conn) allow(a response) {
	limit := c.limit
	switch {
	case a.status == http.StatusOK:
		limit = c.most
	case a.status/100 == 4 && a.status != http.StatusGone:
		limit = 1
	}
	if limit == c.limit {
		return
	}
	c.limit = limit
	_ = c.locked(func() error {
		return c.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: limit})
	})
}

// frames writes the response. Guarded by mu.
func (c *conn) frames(id uint32, r *request, a response) error {
	apnsID := r.header["apns-id"]
	if apnsID == "" {
		apnsID = newID()
	}
	body, kind := a.body(r.since)
	c.block.Reset()
	fields := []hpack.HeaderField{
		{Name: ":status", Value: statusText(a.status)},
		{Name: "apns-id", Value: apnsID},
	}
	if body != nil {
		fields = append(fields, hpack.HeaderField{Name: "content-type", Value: kind})
	}
	for _, f := range fields {
		if err := c.encoder.WriteField(f); err != nil {
			return err
		}
	}
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: body == nil && !a.reset,
	})
	if err != nil {
		return err
	}
	if a.reset {
		return c.framer.WriteRSTStream(id, http2.ErrCodeInternal)
	}
	if body == nil {
		return nil
	}
	return c.framer.WriteData(id, true, body)
}

// body is that of an error; there is none for a push that was accepted.
func (a response) body(since time.Time) (body []byte, kind string) {
	if a.html {
		return []byte("<html><body><h1>" + http.StatusText(a.status) + "</h1></body></html>"), "text/html"
	}
	if a.status == http.StatusOK {
		return nil, ""
	}
	out := struct {
		Reason    string `json:"reason"`
		Timestamp int64  `json:"timestamp,omitempty"` // ms since 1970
	}{Reason: strings.ToValidUTF8(a.reason, "")}
	if a.status == http.StatusGone && !since.IsZero() {
		out.Timestamp = since.UnixMilli()
	}
	body, err := json.Marshal(out)
	if err != nil { // strings and numbers always encode
		return []byte("{}"), "application/json"
	}
	return body, "application/json"
}
