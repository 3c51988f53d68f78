package transport_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/edge/transport"
)

// house is a transport with a listener, whose guests are all parked.
type house struct {
	t    *testing.T
	tr   *transport.Transport
	tls  *tls.Config
	addr string
	l    net.Listener
	xmpp bool // guests are streams that are not cut
}

func newHouse(t *testing.T, cfg transport.Config) *house {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &house{
		t: t, tr: transport.New(cfg), l: l, addr: l.Addr().String(),
		tls: &tls.Config{
			Certificates: []tls.Certificate{selfSigned(t)}, SessionTicketsDisabled: true,
			CurvePreferences: []tls.CurveID{tls.X25519}, // for speed
		},
	}
}

// let takes one guest in and has e listen to it.
func (h *house) let(e transport.Receiver) (net.Conn, transport.Conn) {
	h.t.Helper()
	c, err := (&net.Dialer{}).DialContext(h.t.Context(), "tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	client := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	return client, h.seat(e, func() error { return client.HandshakeContext(h.t.Context()) })
}

// seat is the server's part of let.
func (h *house) seat(e transport.Receiver, shake func() error) transport.Conn {
	h.t.Helper()
	s, err := h.l.Accept()
	if err != nil {
		h.t.Fatal(err)
	}
	shaken := make(chan error, 1)
	go func() { shaken <- shake() }()
	server, err := h.tr.Handshake(h.t.Context(), s, h.tls, 10*time.Second)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		h.t.Fatal(err)
	}
	conn := h.tr.Stream(server)
	if h.xmpp {
		conn = h.tr.Raw(server)
	}
	conn.Start(e)
	return conn
}

// settle waits until nobody reads c.
func settle(c transport.Conn) {
	for {
		if _, read := transport.Parked(c); !read {
			return
		}
		runtime.Gosched()
	}
}

func TestIdleFlowsHoldNoGoroutine(t *testing.T) {
	for name, xmpp := range map[string]bool{"sip": false, "xmpp": true} {
		t.Run(name, func(t *testing.T) { testIdleFlows(t, xmpp) })
	}
}

func testIdleFlows(t *testing.T, xmpp bool) {
	const flows = 300
	h, e := newHouse(t, transport.Config{}), newEar()
	h.xmpp = xmpp
	options := options
	if xmpp {
		options = func(n int) string { return fmt.Sprintf("<message id='%d'/>", n) }
	}
	var clients []net.Conn
	for i := range flows {
		c, conn := h.let(e)
		clients = append(clients, c)
		_, _ = io.WriteString(c, options(i))
		e.expect(t, "message "+options(i))
		settle(conn)
	}
	if n, _ := transport.Waiting(h.tr); n != flows {
		t.Errorf("%d are parked", n)
	}
	// The poller, those who wait for work, and the test's own.
	if n := runtime.NumGoroutine(); n > 1+transport.MaxWaiting+10 {
		t.Errorf("%d goroutines for %d idle flows", n, flows)
	}
	for i, c := range clients { // and each is heard
		_, _ = io.WriteString(c, options(i))
		e.expect(t, "message "+options(i))
	}
	for _, c := range clients {
		_ = c.Close()
		e.expect(t, "ended client-closed")
	}
	if n, poller := transport.Waiting(h.tr); n != 0 || poller {
		t.Errorf("%d are parked when all have left, poller %v", n, poller)
	}
}

func TestFlowsThatWaitForCreditHoldNobodyElse(t *testing.T) {
	h := newHouse(t, transport.Config{})
	var stuck []*ear
	for i := range 3 * transport.MaxWaiting / 2 {
		e := newEar()
		e.hold = make(chan struct{})
		c, _ := h.let(e)
		defer c.Close()
		_, _ = io.WriteString(c, options(i)+options(i+1))
		e.expect(t, "message "+options(i))
		stuck = append(stuck, e)
	}
	e := newEar()
	c, _ := h.let(e)
	for i := range 10 {
		_, _ = io.WriteString(c, options(i))
		e.expect(t, "message "+options(i))
	}
	_ = c.Close()
	e.expect(t, "ended client-closed")
	for i, s := range stuck {
		close(s.hold)
		s.expect(t, "message "+options(i+1))
	}
}

func TestLastWordsBeforeTheEndAreHeard(t *testing.T) {
	h, e := newHouse(t, transport.Config{}), newEar()
	for i := range 100 {
		c, conn := h.let(e)
		if i%2 == 0 {
			settle(conn)
		}
		_, _ = io.WriteString(c, options(i)+options(i))
		_ = c.Close()
		e.expect(t, "message "+options(i), "message "+options(i), "ended client-closed")
		conn.Close(transport.ClientClosed)
	}
}

// ender counts how often it hears the end.
type ender struct {
	ends chan error
}

func (e *ender) Message([]byte) error { return nil }
func (e *ender) KeepAlive()           {}
func (e *ender) Alive()               {}
func (e *ender) Ended(err error)      { e.ends <- err }

func TestEveryEndIsToldOnceWhoeverCausesIt(t *testing.T) {
	h := newHouse(t, transport.Config{})
	for i := range 150 {
		e := &ender{make(chan error, 10)}
		c, conn := h.let(e)
		if i%3 == 0 {
			settle(conn)
		}
		var all sync.WaitGroup
		all.Go(func() { _, _ = io.WriteString(c, options(i)) })
		all.Go(func() { conn.Close([]transport.Reason{transport.Kicked, transport.KeepaliveLost}[i%2]) })
		if i%5 == 0 {
			all.Go(func() { _ = c.Close() })
		}
		<-e.ends
		all.Wait()
		_ = c.Close()
		if len(e.ends) > 0 {
			t.Fatalf("the end was told %d times", 1+len(e.ends))
		}
	}
	if n, poller := transport.Waiting(h.tr); n != 0 || poller {
		t.Errorf("%d are parked when all have left, poller %v", n, poller)
	}
}

// named checks that every message is one's own.
type named struct {
	ender
	name string
	own  chan bool
}

func (n *named) Message(p []byte) error {
	n.own <- bytes.Contains(p, []byte(n.name))
	return nil
}

func TestDescriptorsThatAreUsedAgainAreNotMixedUp(t *testing.T) {
	h := newHouse(t, transport.Config{})
	message := func(name string) string {
		return "OPTIONS sip:" + name + "@example.com SIP/2.0\r\nContent-Length: 0\r\n\r\n"
	}
	for i := range 150 { // each gets the descriptors of one before
		n := &named{ender{make(chan error, 1)}, fmt.Sprintf("guest-%d-", i), make(chan bool, 10)}
		c, conn := h.let(n)
		_, _ = io.WriteString(c, message(n.name))
		if !<-n.own {
			t.Fatal("heard another's message")
		}
		go func() { _, _ = io.WriteString(c, message(n.name)) }() // an event that comes too late
		conn.Close(transport.KeepaliveLost)
		<-n.ends
		if len(n.own) > 0 && !<-n.own {
			t.Fatal("heard another's message")
		}
		_ = c.Close()
	}
}

// crumbs is a connection that writes byte by byte, so that no record comes
// whole.
type crumbs struct{ net.Conn }

func (c crumbs) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func TestRecordsMayComeInPiecesOrManyAtOnce(t *testing.T) {
	h, e := newHouse(t, transport.Config{}), newEar()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).SetNoDelay(true)
	client := tls.Client(crumbs{c}, &tls.Config{InsecureSkipVerify: true})
	h.seat(e, client.Handshake)
	for i := range 20 {
		_, _ = io.WriteString(client, options(i))
		e.expect(t, "message "+options(i))
	}
	_ = client.Close()
	e.expect(t, "ended client-closed")

	heap := &gather{}
	c, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	heap.Conn = c
	client = tls.Client(heap, &tls.Config{InsecureSkipVerify: true})
	h.seat(e, client.Handshake)
	heap.hold = true
	for i := range 100 {
		_, _ = io.WriteString(client, options(i))
	}
	_ = client.CloseWrite()
	_ = c.SetWriteDeadline(time.Time{}) // CloseWrite lets nothing follow
	heap.hold = false
	_, _ = heap.Write(nil)
	for i := range 100 {
		e.expect(t, "message "+options(i))
	}
	e.expect(t, "ended client-closed")
	_ = c.Close()
}

// gather holds back what is written, and then writes it at once.
type gather struct {
	net.Conn
	hold bool
	held []byte
}

func (g *gather) Write(p []byte) (int, error) {
	g.held = append(g.held, p...)
	if !g.hold {
		held := g.held
		g.held = nil
		_, err := g.Conn.Write(held)
		return len(p), err
	}
	return len(p), nil
}

// echo sends every message back.
type echo struct {
	ender
	conn chan transport.Conn // holds one
}

func (e *echo) Message(p []byte) error {
	conn := <-e.conn
	defer func() { e.conn <- conn }()
	return conn.Write(p)
}

func TestLongMessagesPassBothWaysAtOnce(t *testing.T) {
	h := newHouse(t, transport.Config{})
	e := &echo{ender{make(chan error, 1)}, make(chan transport.Conn, 1)}
	client, conn := h.let(e)
	e.conn <- conn
	const n = 100
	go func() {
		for i := range n {
			_, _ = io.WriteString(client, sized(60_000+i))
		}
	}()
	// More is under way than the sockets hold, so that writes have to wait for
	// the runtime's poller while the socket is read by ours.
	for i := range n {
		want := sized(60_000 + i)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(client, got); err != nil || string(got) != want {
			t.Fatalf("message %d came back otherwise, %v", i, err)
		}
	}
	_ = client.Close()
	<-e.ends
}

func TestKeyUpdatesAreAnswered(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl, which can ask for new keys")
	}
	h, e := newHouse(t, transport.Config{}), newEar()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := exec.CommandContext(ctx, openssl, "s_client", "-connect", h.addr, "-tls1_3")
	in, _ := client.StdinPipe()
	out, _ := client.StdoutPipe()
	talk, _ := client.StderrPipe()
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	conn := h.seat(e, func() error { return nil })
	// s_client takes a read that begins with K as the command to ask for new
	// keys of both, k to have new ones itself, and says so.
	told := bufio.NewScanner(talk)
	line := "MESSAGE sip:a@example.com SIP/2.0\r\nContent-Length: 0\r\n\r\n"
	for i, key := range []string{"", "K\n", "k\n", "K\n"} {
		_, _ = io.WriteString(in, key)
		for key != "" && told.Scan() && told.Text() != "KEYUPDATE" {
		}
		settle(conn)
		_, _ = io.WriteString(in, line)
		e.expect(t, "message "+line)
		if err := conn.Write([]byte(options(i))); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close(transport.Kicked)
	all, _ := io.ReadAll(out)
	for i := range 4 {
		if !strings.Contains(string(all), fmt.Sprintf("OPTIONS sip:%d@", i)) {
			t.Errorf("answer %d is missing", i)
		}
	}
	cancel()
	_ = client.Wait()
}
