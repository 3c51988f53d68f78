package transport_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/edge/transport"
)

// ask sends a request and returns the answer and why there was no upgrade.
func ask(t *testing.T, request string, u transport.Upgrade, library bool) (string, *transport.Refusal) {
	t.Helper()
	c, s := net.Pipe()
	answer := make(chan string, 1)
	go func() { _, _ = io.WriteString(c, request) }()
	go func() {
		all, _ := io.ReadAll(c)
		answer <- string(all)
	}()
	tr := transport.New(transport.Config{})
	if !library {
		transport.OwnFrames(tr)
	}
	conn, _, err := tr.WebSocket(s, u)
	if err == nil {
		_ = c.Close()
		conn.Close(transport.ClientReset)
		return <-answer, nil
	}
	var no *transport.Refusal
	if !errors.As(err, &no) {
		t.Fatalf("error %v is no refusal", err)
	}
	got := <-answer
	_ = c.Close()
	return got, no
}

func TestUpgradeIsRefusedWithItsReason(t *testing.T) {
	without := func(header string) string {
		var kept []string
		for line := range strings.SplitAfterSeq(upgradeRequest, "\r\n") {
			if !strings.HasPrefix(line, header) {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	cases := map[string]struct {
		request string
		status  string
		why     transport.Denied
	}{
		"another path":            {strings.Replace(upgradeRequest, "/ws", "/", 1), "404", transport.DeniedPath},
		"another method":          {strings.Replace(upgradeRequest, "GET", "POST", 1), "405", transport.DeniedHTTP},
		"no upgrade":              {"GET /ws HTTP/1.1\r\nHost: a\r\n", "426", transport.DeniedHTTP},
		"no subprotocol":          {without("Sec-WebSocket-Protocol"), "400", transport.DeniedSubprotocol},
		"another subprotocol":     {without("Sec-WebSocket-Protocol") + "Sec-WebSocket-Protocol: xmpp2, soap\r\n", "400", transport.DeniedSubprotocol},
		"an origin from nowhere":  {upgradeRequest + "Origin: https://evil.example\r\n", "403", transport.DeniedOrigin},
		"an opaque origin":        {upgradeRequest + "Origin: null\r\n", "403", transport.DeniedOrigin},
		"no key":                  {without("Sec-WebSocket-Key"), "400", transport.DeniedHTTP},
		"an old version":          {without("Sec-WebSocket-Version") + "Sec-WebSocket-Version: 8\r\n", "400", transport.DeniedHTTP},
		"HTTP/9.9":                {strings.Replace(upgradeRequest, "HTTP/1.1", "HTTP/9.9", 1), "505", transport.DeniedHTTP},
		"HTTP/1.0":                {strings.Replace(upgradeRequest, "HTTP/1.1", "HTTP/1.0", 1), "426", transport.DeniedHTTP},
		"no host":                 {without("Host"), "400", transport.DeniedHTTP},
		"a host that is none":     {without("Host") + "Host: localhost/ws\r\n", "400", transport.DeniedHTTP},
		"a name with a space":     {upgradeRequest + "Content-Length : 4\r\n", "400", transport.DeniedHTTP},
		"a key that is none":      {without("Sec-WebSocket-Key") + "Sec-WebSocket-Key: abc\r\n", "400", transport.DeniedHTTP},
		"no connection upgrade":   {without("Connection"), "426", transport.DeniedHTTP},
		"a body":                  {upgradeRequest + "Content-Length: 3\r\n", "400", transport.DeniedHTTP},
		"no HTTP":                 {"REGISTER sip:example.com SIP/2.0\r\n", "400", transport.DeniedHTTP},
		"a header without an end": {upgradeRequest + "Cookie: " + strings.Repeat("x", 20<<10), "400", transport.DeniedHTTP},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			each(t, []way{byLibrary, plain}, func(t *testing.T, w way) {
				u := upgrade()
				u.Origins = []string{"https://app.example.com"}
				got, no := ask(t, tc.request+"\r\n", u, w.library)
				if no == nil || no.Why != tc.why || !strings.HasPrefix(got, "HTTP/1.1 "+tc.status+" ") || !strings.Contains(got, "Connection: close\r\n") {
					t.Errorf("answer %q, refusal %+v", got, no)
				}
			})
		})
	}
}

func TestOriginsThatPass(t *testing.T) {
	cases := []struct {
		allowed, origin string
		pass            bool
	}{
		{"*", "https://any.example", true},
		{"https://app.example.com", "https://app.example.com", true},
		{"https://app.example.com", "https://APP.example.com", true},
		{"https://app.example.com", "http://app.example.com", false},
		{"https://app.example.com", "https://app.example.com:8443", false},
		{"https://*.example.com", "https://a.b.example.com", true},
		{"https://*.example.com", "https://example.com", false},
		{"https://*.example.com", "https://evilexample.com", false},
		{"https://app.example.com", "", true}, // no web page
	}
	for _, tc := range cases {
		synctest.Test(t, func(t *testing.T) {
			u := upgrade()
			u.Origins = []string{tc.allowed}
			request := upgradeRequest
			if tc.origin != "" {
				request += "Origin: " + tc.origin + "\r\n"
			}
			if got, no := ask(t, request+"\r\n", u, false); (no == nil) != tc.pass {
				t.Errorf("%q for %q: answer %q", tc.origin, tc.allowed, got)
			}
		})
	}
}

func TestWithoutACoreTheUpgradeIsPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := upgrade()
		u.Ready = func(string) bool { return false }
		got, no := ask(t, upgradeRequest+"\r\n", u, false)
		if no == nil || no.Why != transport.DeniedNotReady || !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "Retry-After: 7\r\n") {
			t.Errorf("answer %q, refusal %+v", got, no)
		}
	})
}

func TestSlowRequestIsEndedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := net.Pipe()
		done := make(chan struct{})
		go func() { plain.trickle(c, upgradeRequest); close(done) }()
		start := time.Now()
		_, _, err := transport.New(transport.Config{}).WebSocket(s, upgrade())
		var no *transport.Refusal
		if !errors.As(err, &no) || no.Why != transport.DeniedTimeout || time.Since(start) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		<-done
	})
}

func TestFramesSentBehindTheRequestAreKept(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		tr := transport.New(transport.Config{})
		if !w.library {
			transport.OwnFrames(tr)
		}
		c, s := w.link(t, tr)
		go func() { _, _ = io.WriteString(c, upgradeRequest+"\r\n\x81\x82\x00\x00\x00\x00hi") }()
		go func() { _, _ = io.Copy(io.Discard, c) }()
		conn, _, err := tr.WebSocket(s, upgrade())
		if err != nil {
			t.Fatal(err)
		}
		e := newEar()
		conn.Start(e)
		e.expect(t, "message hi")
		_ = c.Close()
		e.expect(t, "ended client-reset")
	})
}

func TestRedirectLeadsToOurselves(t *testing.T) {
	for request, want := range map[string]string{
		"GET /a?b=c HTTP/1.1\r\nHost: evil.example\r\n\r\n":               "Location: https://edge.example.com/a?b=c\r\n",
		"GET http://evil.example/x HTTP/1.1\r\n\r\n":                      "Location: https://edge.example.com/\r\n",
		"GET //evil.example/x HTTP/1.1\r\nHost: a\r\n\r\n":                "Location: https://edge.example.com//evil.example/x\r\n",
		"GET /.well-known/acme-challenge/old HTTP/1.1\r\nHost: a\r\n\r\n": "Location: https://edge.example.com/.well-known/acme-challenge/old\r\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := net.Pipe()
			go func() { _, _ = io.WriteString(c, request) }()
			go transport.New(transport.Config{}).Redirect(s, "edge.example.com", time.Second, token)
			got, _ := io.ReadAll(c)
			if !strings.HasPrefix(string(got), "HTTP/1.1 308 ") || !strings.Contains(string(got), want) {
				t.Errorf("%q was answered %q", request, got)
			}
		})
	}
}

// token knows one challenge, as a certificate authority asks for it.
func token(path string) ([]byte, bool) {
	return []byte("key authorization"), path == "/.well-known/acme-challenge/new"
}

func TestRedirectAnswersTheCertificateAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := net.Pipe()
		go func() { _, _ = io.WriteString(c, "GET /.well-known/acme-challenge/new HTTP/1.1\r\nHost: a\r\n\r\n") }()
		go transport.New(transport.Config{}).Redirect(s, "edge.example.com", time.Second, token)
		got, _ := io.ReadAll(c)
		if !strings.HasPrefix(string(got), "HTTP/1.1 200 ") || !strings.HasSuffix(string(got), "\r\n\r\nkey authorization") {
			t.Errorf("answered %q", got)
		}
	})
}

// flaky fails to accept a number of times, then hands out one connection.
type flaky struct {
	net.Listener
	failures int
	conns    chan net.Conn
}

func (f *flaky) Addr() net.Addr { return &net.TCPAddr{} }
func (f *flaky) Accept() (net.Conn, error) {
	if f.failures > 0 {
		f.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	c, ok := <-f.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func TestAcceptErrorsAreWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &flaky{failures: 12, conns: make(chan net.Conn, 1)}
		c, s := net.Pipe()
		l.conns <- s
		start := time.Now()
		served := 0
		err := transport.New(transport.Config{}).Accept(t.Context(), l, func(net.Conn) {
			served++
			close(l.conns)
		})
		// 5 ms doubled eight times is 1.275 s, then four more of a second.
		if want := 1275*time.Millisecond + 4*time.Second; err != nil || served != 1 || time.Since(start) != want {
			t.Errorf("%d served after %v, %v", served, time.Since(start), err)
		}
		_ = c.Close()
	})
}
