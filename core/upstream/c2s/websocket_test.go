package c2s_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/core/stanza"
)

// Another's implementation of WebSockets is the other end: long messages,
// fragments, pings.
func TestAWebSocketOfAnotherHandIsUnderstood(t *testing.T) {
	long := "<message xmlns='jabber:client'><body>" + strings.Repeat("é", 100_000) + "</body></message>"
	said := make(chan string, 4)
	pinged := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"xmpp"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		if r.Header.Get("X-Forwarded-For") != "203.0.113.7" {
			return
		}
		write := func(text string) { _ = c.Write(r.Context(), websocket.MessageText, []byte(text)) }
		read := func() string {
			_, p, _ := c.Read(r.Context())
			return string(p)
		}
		said <- read()
		write("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' id='w1' version='1.0'/>")
		write("<stream:features xmlns:stream='http://etherx.jabber.org/streams'><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" +
			"<mechanism>PLAIN</mechanism></mechanisms></stream:features>")
		said <- read()
		said <- read()
		write(long)
		if out, err := c.Writer(r.Context(), websocket.MessageText); err == nil { // in fragments
			for _, part := range []string{"<message xmlns='jabber:client'>", "<body>", "in parts</body></message>"} {
				_, _ = out.Write([]byte(part))
			}
			_ = out.Close()
		}
		ctx := c.CloseRead(r.Context())
		pinged <- c.Ping(ctx)
		write("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")
		<-ctx.Done()
	}))
	defer srv.Close()
	d := domain(t, strings.Replace(srv.URL, "http", "ws", 1)+"/any")
	s, err := d.Open(within(t, 10*time.Second), netip.MustParseAddr("::ffff:203.0.113.7"))
	must(t, err)
	defer s.Close(false)
	must(t, s.Write([]byte(" \n"))) // a keep-alive of TCP has no place here
	must(t, s.Write([]byte("<presence/>")))
	must(t, s.Write([]byte("<message><body>"+strings.Repeat("x", 70_000)+"</body></message>")))
	for _, want := range []string{"<open ", "<presence xmlns='jabber:client'/>", "<message xmlns='jabber:client'><body>xxx"} {
		if got := <-said; !strings.HasPrefix(got, want) {
			t.Errorf("the server got %.80q, want %q", got, want)
		}
	}
	var got []string
	if err := s.Run(func(e *stanza.Element) { got = append(got, string(e.Raw)) }); err != nil {
		t.Error(err)
	}
	if len(got) != 2 || got[0] != long || !strings.Contains(got[1], "in parts") {
		t.Errorf("%d messages came", len(got))
	}
	if err := <-pinged; err != nil {
		t.Errorf("a ping: %v", err)
	}
}
