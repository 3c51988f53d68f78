package xmppproxy

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/session"
	"sallyport/tunnel"
)

const (
	nsSASL   = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsBind   = "urn:ietf:params:xml:ns:xmpp-bind"
	nsSM     = "urn:xmpp:sm:3"
	nsCSI    = "urn:xmpp:csi:0"
	nsErrors = "urn:ietf:params:xml:ns:xmpp-stanzas"
)

const (
	// maxAttempts is how often a client may try to log in on one flow (RFC 6120
	// §6.4.5 recommends 2 to 5).
	maxAttempts = 5
	// maxEarly is how many elements a client may send ahead of their answers; of
	// their bytes it is twice an element's.
	maxEarly = 16
	// maxBound and maxBoundBytes are how many, and how much, while its session
	// begins: it has its answer then, and sends what it likes.
	maxBound, maxBoundBytes = 1024, 1 << 20
)

// ownFeatures are ours, whatever the server's.
var ownFeatures = []byte("<sm xmlns='" + nsSM + "'/><csi xmlns='" + nsCSI + "'/>")

// login brings a client from its first header to a session. It has a goroutine
// of its own, which goes step by step: XMPP does so until a resource is bound.
type login struct {
	// Static after startLogin.
	c      *conn
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // something is in early, or will never be again

	early []input // guarded by conn.mu
	size  int     // guarded by conn.mu: of early
	bound bool    // guarded by conn.mu: its session begins

	// Owned by the login's goroutine.
	domain *Domain
	up     Stream // nil until it is there, and once it is a line's
	user   string // who logged in, "" when that cannot be told
	counts bool   // the server has stream management
}

// input is an element that waits for its turn.
type input struct {
	kind   stanza.Kind
	raw    []byte
	header stanza.Stream
	err    error // of the header
}

// startLogin begins with a header. c.mu is held.
func (c *conn) startLogin(e *stanza.Element) (wrong string) {
	if !c.p.logins.take(c.flow.Info().Remote.Addr()) {
		return "resource-constraint"
	}
	l := &login{c: c, wake: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithTimeout(c.p.life, c.p.cfg.Login)
	c.login = l
	if wrong = l.take(stanza.Header, e); wrong == "" {
		c.p.work.Go(l.run)
	}
	return wrong
}

// take keeps an element for its turn. c.mu is held.
func (l *login) take(kind stanza.Kind, e *stanza.Element) (wrong string) {
	if l.bound {
		if len(l.early) >= maxBound || l.size > maxBoundBytes {
			return "policy-violation"
		}
	} else if len(l.early) >= maxEarly || l.size+len(e.Raw) > 2*maxLoginElement {
		return "policy-violation"
	}
	in := input{kind: kind}
	switch kind {
	case stanza.Header:
		in.header, in.err = stanza.StreamOf(e)
	case stanza.Whole:
		in.raw = append([]byte(nil), e.Raw...)
		l.size += len(in.raw)
	}
	l.early = append(l.early, in)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return ""
}

// rest takes what waits. c.mu is held.
func (l *login) rest() []input {
	list := l.early
	l.early, l.size = nil, 0
	return list
}

// begins says whether the client's session begins with the answer that is about
// to be sent.
func (l *login) begins(v bool) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.bound = v
}

// give hands an element on that came before there was a line.
func (in *input) give(c *conn, l *line) {
	if in.kind != stanza.Whole {
		l.fromClient(c, in.kind, &stanza.Element{})
		return
	}
	e, err := session.Parse(in.raw)
	if err != nil { // it was read before
		c.fail("undefined-condition", tunnel.CloseProtocol)
		return
	}
	l.fromClient(c, stanza.Whole, e)
}

// errEnd ends a login: the client closed its stream, or has been told why not.
var errEnd = errors.New("the client left before it had logged in")

// condition is a stream error that the client is to be told.
type condition string

func (c condition) Error() string { return string(c) }

// next waits for the client.
func (l *login) next() (input, error) {
	for {
		l.c.mu.Lock()
		if len(l.early) > 0 {
			in := l.early[0]
			l.early, l.size = l.early[1:], l.size-len(in.raw)
			l.c.mu.Unlock()
			if in.kind == stanza.End {
				return in, errEnd
			}
			return in, nil
		}
		l.c.mu.Unlock()
		select {
		case <-l.wake:
		case <-l.ctx.Done():
			return input{}, l.ctx.Err()
		}
	}
}

func (l *login) run() {
	defer l.cancel()
	err := l.steps()
	l.c.p.logins.give(l.c.flow.Info().Remote.Addr())
	if l.up != nil {
		l.up.Close(true)
	}
	if err == nil {
		return
	}
	var told condition
	var other interface{ Condition() string }
	switch {
	case errors.As(err, &told):
	case errors.As(err, &other):
		told = condition(other.Condition())
	case errors.Is(err, errEnd):
		l.c.end(nil, tunnel.CloseClient)
		l.c.lost()
		return
	case errors.Is(err, context.DeadlineExceeded):
		told = "connection-timeout"
	case errors.Is(err, context.Canceled): // the client or the core left
		l.c.drop(tunnel.CloseReconnect)
		l.c.lost()
		return
	default:
		told = "remote-connection-failed"
	}
	l.c.p.log.Info("a client could not log in", "flow", l.c.flow.ID(), "told", string(told), "err", err)
	l.c.fail(string(told), tunnel.ClosePolicy)
}

// steps are those of a login.
func (l *login) steps() error {
	in, err := l.next()
	if err != nil {
		return err
	}
	if err := l.open(in); err != nil {
		return err
	}
	if err := l.authenticate(); err != nil {
		return err
	}
	if err := l.again(); err != nil {
		return err
	}
	return l.settle()
}

// open connects to the server of the domain in the client's header.
func (l *login) open(in input) (err error) {
	switch {
	case in.err != nil:
		return condition("invalid-namespace")
	case !strings.HasPrefix(in.header.Version, "1."):
		return condition("unsupported-version")
	}
	name := strings.ToLower(strings.TrimSuffix(in.header.To, "."))
	if l.domain = l.c.p.domains[name]; l.domain == nil {
		return condition("host-unknown")
	}
	l.up, err = l.domain.Open(l.ctx, l.c.flow.Info().Remote.Addr(), in.header.Lang)
	if err != nil {
		return err
	}
	return l.features(l.up.Features(), nil)
}

// features sends our header and the server's features, as they are through us.
func (l *login) features(raw, own []byte) error {
	e, err := session.Parse(raw)
	if err != nil {
		return err
	}
	l.counts = e.Child(nsSM, "sm") != nil
	out, err := stanza.AppendFeatures(nil, e, stanza.Features{ChannelBinding: l.domain.SharedCert, Own: own})
	if err != nil {
		return err
	}
	l.c.header(stanza.Stream{From: l.domain.Name, ID: newID(), Version: "1.0", Lang: "en"})
	l.send(out)
	return nil
}

func (l *login) send(p []byte) {
	l.c.out.send(p)
	l.c.out.flush()
}

// authenticate relays a login (RFC 6120 §6): what it says is between client and
// server, except for the name.
func (l *login) authenticate() error {
	var name nameReader
	midway := false // the server waits for a <response/>
	for attempts := 0; ; {
		in, err := l.next()
		if err != nil {
			return err
		}
		e, err := l.element(in)
		switch {
		case err != nil:
			return err
		case string(e.Space) != nsSASL:
			return condition("not-authorized")
		}
		switch string(e.Local) {
		case "auth":
			if attempts++; attempts > maxAttempts {
				return condition("policy-violation")
			}
			// Servers differ in what a second one in the midst of a first means.
			name = nameReader{mechanism: string(e.Attr("mechanism")), seen: midway}
			name.read(e)
		case "response":
			name.read(e)
		case "abort":
			name = nameReader{}
		default:
			return condition("not-authorized")
		}
		answer, err := l.ask(in.raw)
		if err != nil {
			return err
		}
		if answer.Is(nsSASL, "success") {
			l.user = name.name
			l.c.restart()
			l.send(answer.AppendPortable(nil))
			return nil
		}
		midway = answer.Is(nsSASL, "challenge")
		if answer.Is(nsSASL, "failure") {
			l.c.p.metrics.refused.Inc()
		}
		l.send(answer.AppendPortable(nil))
	}
}

// element reads what is not to be a header.
func (l *login) element(in input) (*stanza.Element, error) {
	if in.kind != stanza.Whole {
		return nil, condition("policy-violation")
	}
	return session.Parse(in.raw)
}

// ask sends an element to the server and waits for the next one. A stream error
// is passed on.
func (l *login) ask(raw []byte) (*stanza.Element, error) {
	if err := l.up.Write(raw); err != nil {
		return nil, err
	}
	e, err := l.up.Next(l.ctx)
	if err != nil {
		return nil, err
	}
	if e.Is(stanza.NSStreams, "error") {
		l.send(e.AppendPortable(nil))
		return nil, errEnd
	}
	return e, nil
}

// again reads the header after the login, and asks the server for its new
// features.
func (l *login) again() error {
	in, err := l.next()
	switch {
	case err != nil:
		return err
	case in.kind != stanza.Header || in.err != nil:
		return condition("invalid-namespace")
	case !strings.EqualFold(strings.TrimSuffix(in.header.To, "."), l.domain.Name):
		return condition("host-unknown")
	}
	raw, err := l.up.Restart(l.ctx)
	if err != nil {
		return err
	}
	return l.features(raw, ownFeatures)
}

// settle answers what a client does next: it resumes, or it binds a resource.
func (l *login) settle() error {
	for {
		in, err := l.next()
		if err != nil {
			return err
		}
		e, err := l.element(in)
		if err != nil {
			return err
		}
		done := false
		switch {
		case e.Is(nsSM, "resume"):
			done, err = l.resume(e)
		case e.Is(nsSM, "enable"):
			l.send(smFailed("unexpected-request"))
		case e.Is(stanza.NSClient, "iq"):
			done, err = l.bind(in.raw, e)
		case string(e.Space) == nsSM, string(e.Space) == nsCSI: // of no use yet
		default:
			return condition("not-authorized")
		}
		if done || err != nil {
			return err
		}
	}
}

// smFailed is <failed/> of XEP-0198.
func smFailed(reason string) []byte {
	return []byte("<failed xmlns='" + nsSM + "'><" + reason + " xmlns='" + nsErrors + "'/></failed>")
}

// newID is a name that cannot be guessed.
func newID() string { return rand.Text() }
