package xmppproxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/session"
)

// server is an XMPP server of one domain, as small as it gets: it believes who
// logs in, binds what is asked for, and counts (XEP-0198). It routes nothing.
type server struct {
	mu       sync.Mutex
	features string           // before login, guarded by mu
	sm       bool             // guarded by mu
	refuse   error            // of Open, guarded by mu
	sessions []*serverSession // ever bound, guarded by mu
	streams  []*serverStream  // ever opened, guarded by mu

	// What it does in ways of its own; static while somebody logs in.
	slow    time.Duration // how long what answers a binding or a resumption is under way
	binds   string        // the JID that it binds, whoever is there
	answers string        // what it says to <resume/>
	binding func()        // called before it binds
	closes  func()        // called as a stream is closed in order
}

// serverSession is what one resource of a user is at the server.
type serverSession struct {
	jid, previd string
	got         []string // stanzas from the client, in order
	unacked     []string
	acked       uint32
	stream      *serverStream // nil while it hibernates
	ended       string        // "clean" once it was closed in order
}

// serverStream implements Stream.
type serverStream struct {
	srv    *server
	user   string
	sess   *serverSession
	out    chan string
	gone   chan struct{}
	once   sync.Once
	wrote  []string
	client netip.Addr
	queued atomic.Int64 // what it says that waits
}

const loginFeatures = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>" +
	"<mechanism>SCRAM-SHA-1</mechanism></mechanisms></stream:features>"

func newServer() *server { return &server{features: loginFeatures, sm: true} }

func (s *server) domain() Domain {
	return Domain{Name: "example.com", Open: func(_ context.Context, client netip.Addr, _ string) (Stream, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.refuse != nil {
			return nil, s.refuse
		}
		st := &serverStream{srv: s, out: make(chan string, 4096), gone: make(chan struct{}), client: client}
		s.streams = append(s.streams, st)
		return st, nil
	}}
}

func (st *serverStream) Features() []byte { return []byte(st.srv.features) }

func (st *serverStream) Restart(context.Context) ([]byte, error) {
	sm := ""
	if st.srv.sm {
		sm = "<sm xmlns='urn:xmpp:sm:3'/><sm xmlns='urn:xmpp:sm:2'/>"
	}
	return []byte("<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>" + sm + "<csi xmlns='urn:xmpp:csi:0'/></stream:features>"), nil
}

func (st *serverStream) Next(ctx context.Context) (*stanza.Element, error) {
	select {
	case text := <-st.out:
		return st.read(text)
	default:
	}
	select {
	case text := <-st.out:
		return st.read(text)
	case <-st.gone:
		return nil, errors.New("closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (*serverStream) read(text string) (*stanza.Element, error) {
	if text == stanza.StreamEnd {
		return nil, io.EOF
	}
	return session.Parse([]byte(text))
}

// send has a text on its way as long as the server is slow.
func (st *serverStream) send(text string) {
	if st.srv.slow == 0 {
		st.out <- text
		return
	}
	time.AfterFunc(st.srv.slow, func() { st.out <- text })
}

func (st *serverStream) Run(each func(*stanza.Element)) error {
	for {
		e, err := st.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		each(e)
	}
}

func (st *serverStream) Queued() int { return int(st.queued.Load()) }

func (st *serverStream) Close(clean bool) {
	if clean && st.srv.closes != nil {
		st.srv.closes()
	}
	st.once.Do(func() {
		close(st.gone)
		st.srv.mu.Lock()
		defer st.srv.mu.Unlock()
		if st.sess == nil || st.sess.stream != st {
			return
		}
		st.sess.stream = nil
		if clean {
			st.sess.ended = "clean"
		} else if !st.srv.sm {
			st.sess.ended = "lost"
		}
	})
}

func (st *serverStream) Write(p []byte) error {
	select {
	case <-st.gone:
		return errors.New("closed")
	default:
	}
	e, err := session.Parse(p)
	if err != nil {
		return fmt.Errorf("%q: %w", p, err)
	}
	if st.srv.binding != nil && e.Child(nsBind, "bind") != nil {
		st.srv.binding()
	}
	st.srv.mu.Lock()
	defer st.srv.mu.Unlock()
	st.wrote = append(st.wrote, string(p))
	switch {
	case e.Is(nsSASL, "auth"), e.Is(nsSASL, "response"):
		st.login(e)
	case e.Is(nsSM, "resume"):
		st.resume(e)
	case e.Is(nsSM, "enable"):
		if !st.srv.sm {
			st.out <- "<failed xmlns='urn:xmpp:sm:3'/>"
			break
		}
		st.sess.previd = "srv-" + strconv.Itoa(len(st.srv.sessions))
		st.out <- "<enabled xmlns='urn:xmpp:sm:3' resume='true' max='600' id='" + st.sess.previd + "'/>"
	case e.Is(nsSM, "r"):
		st.out <- fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", len(st.sess.got))
	case e.Is(nsSM, "a"):
		st.sess.ack(string(e.Attr("h")))
	case e.Child(nsBind, "bind") != nil:
		st.bind(e)
	default:
		st.sess.got = append(st.sess.got, string(p))
	}
	return nil
}

// login believes the name.
func (st *serverStream) login(e *stanza.Element) {
	raw, _ := base64.StdEncoding.DecodeString(e.Text(1000))
	switch text := string(raw); {
	case st.user != "" && e.Is(nsSASL, "response"):
		st.out <- "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
	case st.user != "":
		st.out <- "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
	case string(e.Attr("mechanism")) == "PLAIN" && strings.HasSuffix(text, "\x00pw"):
		st.user = strings.Split(text, "\x00")[1]
		st.out <- "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
	case string(e.Attr("mechanism")) == "SCRAM-SHA-1": // and what comes before the response is passed over
		st.user, _, _ = strings.Cut(text[strings.LastIndex(text, "n=")+2:], ",") // of two names the last
		st.out <- "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
	case string(e.Attr("mechanism")) == "OAUTHBEARER":
		st.user = text
		st.out <- "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
	default:
		st.out <- "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>"
	}
}

func (st *serverStream) bind(e *stanza.Element) {
	in, _ := e.Inside(e.Child(nsBind, "bind"))
	resource := "made"
	if r := in.Child(nsBind, "resource"); r != nil {
		resource = r.Text(100)
	}
	jid := strings.ToLower(st.user) + "@example.com/" + resource
	if st.srv.binds != "" {
		jid = st.srv.binds
	}
	for _, o := range st.srv.sessions { // a conflict ends the older one
		if o.jid == jid && o.ended == "" {
			o.ended = "conflict"
			if o.stream != nil {
				o.stream.out <- "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
				o.stream.out <- stanza.StreamEnd
				o.stream = nil
			}
		}
	}
	st.sess = &serverSession{jid: jid, stream: st}
	st.srv.sessions = append(st.srv.sessions, st.sess)
	st.send("<iq type='result' id='" + string(e.Attr("id")) + "'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>" + jid + "</jid></bind></iq>")
}

func (st *serverStream) resume(e *stanza.Element) {
	if st.srv.answers != "" {
		st.out <- st.srv.answers
		return
	}
	for _, s := range st.srv.sessions {
		if s.previd == string(e.Attr("previd")) && s.ended == "" && strings.HasPrefix(s.jid, st.user+"@") {
			s.ack(string(e.Attr("h")))
			if s.stream != nil {
				s.stream.out <- stanza.StreamEnd
			}
			s.stream, st.sess = st, s
			st.send(fmt.Sprintf("<resumed xmlns='urn:xmpp:sm:3' h='%d' previd='%s'/>", len(s.got), s.previd))
			for _, text := range s.unacked {
				st.out <- text
			}
			return
		}
	}
	st.out <- "<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
}

func (s *serverSession) ack(h string) {
	v, _ := strconv.ParseUint(h, 10, 32)
	n := uint32(v) - s.acked
	if int(n) > len(s.unacked) {
		panic(fmt.Sprintf("%s acknowledged %d of %d", s.jid, n, len(s.unacked)))
	}
	s.unacked, s.acked = s.unacked[n:], uint32(v)
}

// session is the newest of a full JID.
func (s *server) session(jid string) *serverSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.sessions) - 1; i >= 0; i-- {
		if s.sessions[i].jid == jid {
			return s.sessions[i]
		}
	}
	return nil
}

// says sends a stanza to a session, whether it is there or hibernates.
func (s *server) says(to *serverSession, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to.unacked = append(to.unacked, text)
	if to.stream != nil {
		to.stream.out <- text
		if s.sm {
			to.stream.out <- "<r xmlns='urn:xmpp:sm:3'/>"
		}
	}
}

// cut ends the stream of a session as a server that crashes would.
func (s *server) cut(of *serverSession) {
	s.mu.Lock()
	st := of.stream
	s.mu.Unlock()
	st.Close(false)
}

// snapshot is what became of a session.
func (s *server) snapshot(of *serverSession) (got []string, waiting int, ended string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), of.got...), len(of.unacked), of.ended
}

// message is a chat message with a body.
func message(id, body string) string {
	return "<message from='bob@example.com/desk' type='chat' id='" + id + "'><body>" + body + "</body></message>"
}
