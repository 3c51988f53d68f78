package edge_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/certs/acmetest"
	"sallyport/edge"
	"sallyport/tunnel"
)

// hostname is what the authority is asked to certify.
const hostname = "edge.example.com"

// host is an edge on loopback sockets whose certificate a real authority
// issues, and a core.
type host struct {
	town
	ca    *acmetest.CA
	doors map[string]net.Listener // by the address that the config names
	said  chan string             // the edge's log lines
	leave func()
}

// settle makes a host, and an authority that looks for it at port 443 alone;
// the edge does not run yet.
func settle(t *testing.T, life time.Duration) *host {
	t.Helper()
	h := &host{doors: make(map[string]net.Listener), said: make(chan string, 10000)}
	h.town = town{
		t: t, registry: prometheus.NewRegistry(),
		flows: make(chan *tunnel.Flow, 1000), heard: make(chan string, 1000), done: make(chan error, 1),
	}
	for _, addr := range []string{":443", ":5061", ":5223", ":80", "10.1.0.4:7443"} {
		h.doors[addr] = loopback(t)
	}
	h.cfg, h.dir = prepare(t)
	h.ca = acmetest.Start(t, acmetest.Config{TLSPort: h.port(":443"), HTTPPort: h.port(":80"), Life: life})
	h.cfg.TLS = edge.TLS{ACME: true, ACMEDirectory: h.ca.Directory(), ACMEDir: filepath.Join(h.dir, "acme")}
	return h
}

func loopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func (h *host) port(addr string) int { return h.doors[addr].Addr().(*net.TCPAddr).Port }

// moveIn runs the edge, and a core, until the test ends.
func (h *host) moveIn() {
	h.t.Helper()
	var err error
	h.server, err = edge.New(h.cfg, edge.Deps{
		Log: slog.New(slog.NewTextHandler(lines(h.said), nil)), Registry: h.registry, Version: "test", ACME: h.ca.Client(),
		Listen: func(_, addr string) (net.Listener, error) { return h.doors[addr], nil },
	})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { h.done <- h.server.Run(ctx) }()
	coreCtx, hangUp := context.WithCancel(context.Background())
	var core sync.WaitGroup
	core.Go(func() {
		_ = runCore(h.t, coreCtx, h.dir, &h.town, func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", h.doors["10.1.0.4:7443"].Addr().String())
		})
	})
	h.leave = sync.OnceFunc(func() {
		cancel()
		if err := <-h.done; err != nil {
			h.t.Errorf("the edge ended with %v", err)
		}
		hangUp()
		core.Wait()
	})
	h.t.Cleanup(h.leave)
}

// lines is a log whose lines are heard one by one.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

// hears waits for a line of the edge's log that has all of the texts.
func (h *host) hears(texts ...string) string {
	h.t.Helper()
	var heard []string
	late := time.After(40 * time.Second)
	for {
		select {
		case line := <-h.said:
			heard = append(heard, line)
			missing := false
			for _, text := range texts {
				missing = missing || !strings.Contains(line, text)
			}
			if !missing {
				return line
			}
		case <-late:
			h.t.Fatalf("nothing was said of %q, only\n%s", texts, strings.Join(heard, ""))
		}
	}
}

// hearsBoth waits for two lines, whichever comes first.
func (h *host) hearsBoth(one, other string) {
	h.t.Helper()
	late := time.After(40 * time.Second)
	for one != "" || other != "" {
		select {
		case line := <-h.said:
			if one != "" && strings.Contains(line, one) {
				one = ""
			}
			if other != "" && strings.Contains(line, other) {
				other = ""
			}
		case <-late:
			h.t.Fatalf("nothing was said of %q and %q", one, other)
		}
	}
}

// visit is a phone that trusts the authority and nobody else.
func (h *host) visit(addr string, protocols ...string) (*phone, error) {
	c, err := tls.Dial("tcp", h.doors[addr].Addr().String(), &tls.Config{ServerName: hostname, RootCAs: h.ca.Roots(), NextProtos: protocols})
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(25 * time.Second))
	h.t.Cleanup(func() { c.Close() })
	return &phone{t: h.t, conn: c, r: bufio.NewReader(c)}, nil
}

func (h *host) mustVisit(addr string) *phone {
	h.t.Helper()
	p, err := h.visit(addr)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// answered is a phone that got an answer from the core, once there is one.
func (h *host) answered() *phone {
	h.t.Helper()
	for begin := time.Now(); time.Since(begin) < 25*time.Second; {
		p, err := h.visit(":5061")
		if err != nil {
			continue
		}
		p.say(options(1))
		answer := make([]byte, len(ok))
		if _, err := io.ReadFull(p.r, answer); err == nil && string(answer) == ok {
			return p
		}
	}
	h.t.Fatal("no core answers")
	return nil
}

// get asks for a page without TLS and returns the whole answer.
func (h *host) get(path string) string {
	h.t.Helper()
	c, err := net.Dial("tcp", h.doors[":80"].Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: "+hostname+"\r\n\r\n")
	c.SetDeadline(time.Now().Add(25 * time.Second))
	answer, _ := io.ReadAll(c)
	return string(answer)
}

// metric is the value of one series, label by label; -1 when there is none.
func (h *host) metric(name string, labels ...string) float64 {
	h.t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var have []string
			for _, l := range m.GetLabel() {
				have = append(have, l.GetName(), l.GetValue())
			}
			if f.GetName() == name && strings.Join(have, " ") == strings.Join(labels, " ") {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return -1
}
