package apns_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
)

// proxy is an HTTP proxy that knows CONNECT alone, in front of a simulator. It
// has a listener of its own, so that it works without real time.
type proxy struct {
	listen   *pushtest.Listener
	upstream *pushtest.Listener
	want     string // Proxy-Authorization

	mu       sync.Mutex
	asked    []string          // guarded by mu; hosts that were let through
	direct   int               // guarded by mu; dialled past it
	tunnels  map[net.Conn]bool // guarded by mu
	refusing bool              // guarded by mu; nobody listens
	silent   bool              // guarded by mu; takes connections and says nothing
	busy     bool              // guarded by mu; answers 503
}

const proxyAddr = "proxy.example.com:3128"

// newProxy serves until the test's cleanup.
func newProxy(t *testing.T, upstream *pushtest.Listener, user, password string) *proxy {
	t.Helper()
	p := &proxy{
		listen: pushtest.NewListener(), upstream: upstream, tunnels: make(map[net.Conn]bool),
		want: "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)),
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = p.listen.Close(); p.cut(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := p.listen.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(c) })
		}
	})
	return p
}

// dial is the network with the proxy in it.
func (p *proxy) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	p.mu.Lock()
	refusing := p.refusing
	if addr != proxyAddr {
		p.direct++
	}
	p.mu.Unlock()
	switch {
	case addr != proxyAddr:
		return p.upstream.Dial(ctx, network, addr)
	case refusing:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	default:
		return p.listen.Dial(ctx, network, addr)
	}
}

// cut ends the tunnels that are open.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.tunnels {
		_ = c.Close()
	}
}

func (p *proxy) set(f func()) { p.mu.Lock(); defer p.mu.Unlock(); f() }

// hold keeps c to be cut, and reports how the proxy feels.
func (p *proxy) hold(c net.Conn) (silent, busy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tunnels[c] = true
	return p.silent, p.busy
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	silent, busy := p.hold(c)
	in := bufio.NewReader(c)
	r, err := http.ReadRequest(in)
	switch {
	case err != nil:
		return
	case silent:
		_, _ = io.Copy(io.Discard, in)
		return
	case busy:
		_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		return
	case r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != p.want:
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	p.set(func() { p.asked = append(p.asked, r.Host) })
	out, err := p.upstream.Dial(context.Background(), "tcp", r.Host)
	if err != nil {
		return
	}
	defer out.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(out, in); _ = out.Close() }()
	_, _ = io.Copy(c, out)
	_ = c.Close()
	<-done
}

func TestP15_EgressProxyWithPassword(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		p := newProxy(t, l, "user", "p@ss")
		cfg := a.config()
		cfg.Endpoint, cfg.Dial, cfg.Proxy = "", p.dial, "http://user:p%40ss@"+proxyAddr
		c := a.client(cfg)
		phone, dev := a.phone(push.KindVoIP), a.phone(push.KindVoIP)
		dev.Sandbox = true
		for range 5 {
			wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
			wantOutcome(t, c.Send(callContext(t), ring(dev)), push.Accepted)
		}
		if got := strings.Join(p.asked, " "); got != "api.push.apple.com:443 api.sandbox.push.apple.com:443" || p.direct != 0 {
			t.Errorf("CONNECT to %s, %d dialled past the proxy", got, p.direct)
		}

		cfg.NoProxy = []string{".sandbox.push.apple.com"}
		c = a.client(cfg)
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
		wantOutcome(t, c.Send(callContext(t), ring(dev)), push.Accepted)
		if len(p.asked) != 3 || p.direct != 1 {
			t.Errorf("with no_proxy: CONNECT to %v, %d dialled past the proxy", p.asked, p.direct)
		}

		cfg.Proxy = "http://user:wrong@" + proxyAddr
		c = a.client(cfg)
		r := c.Send(callContext(t), ring(phone))
		wantOutcome(t, r, push.ProviderDown)
		if r.Reason != "the proxy answers 407 Proxy Authentication Required" || r.Retry == 0 {
			t.Errorf("result %+v does not name the proxy's answer", r)
		}
		if tr := c.Condition().Trouble; tr == nil || tr.Kind != push.TroubleProxy || !strings.Contains(tr.Remedy, "password in push.proxy") {
			t.Errorf("trouble %+v", tr)
		}
	})
}

func TestP15_ProxyThatWasDownIsUsedAgain(t *testing.T) {
	for name, down := range map[string]func(p *proxy, yes bool){
		"nobody listens": func(p *proxy, yes bool) { p.refusing = yes },
		"says nothing":   func(p *proxy, yes bool) { p.silent = yes },
		"answers 503":    func(p *proxy, yes bool) { p.busy = yes },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
				p := newProxy(t, l, "user", "secret")
				cfg := a.config()
				cfg.Dial, cfg.Proxy = p.dial, "http://user:secret@"+proxyAddr
				c := a.client(cfg)
				voip, alert := a.phone(push.KindVoIP), a.phone(push.KindAlert)
				wantOutcome(t, c.Send(callContext(t), ring(voip)), push.Accepted)

				p.set(func() { down(p, true) })
				p.cut()
				for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
					start := time.Now()
					wantOutcome(t, c.Send(callContext(t), ring(voip)), push.ProviderDown)
					if took := time.Since(start); took > push.CallTimeout {
						t.Errorf("a call while it is down took %v", took)
					}
				}
				r := c.Send(t.Context(), tell(alert))
				wantOutcome(t, r, push.ProviderDown)
				if tr := c.Condition().Trouble; tr == nil || r.Retry != 5*time.Second {
					t.Errorf("trouble %+v, retry %v", tr, r.Retry)
				} else if name != "says nothing" && tr.Kind != push.TroubleProxy {
					t.Errorf("trouble %+v does not name the proxy", tr)
				}

				p.set(func() { down(p, false) })
				start := time.Now()
				wantOutcome(t, c.Send(callContext(t), ring(voip)), push.Accepted)
				wantOutcome(t, c.Send(t.Context(), tell(alert)), push.Accepted)
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("recovered after %v", took)
				}
				if ok, last := c.Health(); !ok {
					t.Errorf("health: %s", last)
				}
			})
		})
	}
}

func TestExplainAndConditionNameNoSecret(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		p := newProxy(t, l, "user", "secret")
		cfg := a.config()
		cfg.Endpoint, cfg.Dial, cfg.Proxy = "", p.dial, "http://user:secret@"+proxyAddr
		c := a.client(cfg)
		phone := a.phone(push.KindVoIP)
		explain := func() string {
			var b strings.Builder
			for _, f := range c.Explain(phone, push.VoIP) {
				b.WriteString(f.Name + "=" + f.Value + " ")
			}
			return b.String()
		}
		cold := "host=https://api.push.apple.com topic=org.example.phone.voip environment=production key_id=" + cfg.KeyID +
			" proxy=http://" + proxyAddr + " connections=0 breaker=shut "
		if got := explain(); got != cold {
			t.Errorf("cold: %s", got)
		}
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
		if got := explain(); !strings.Contains(got, "credential_age=0s") || !strings.Contains(got, "connections=1 ") {
			t.Errorf("warm: %s", got)
		}
		if co := c.Condition(); co.Trouble != nil || co.Open || co.Connections != 1 || time.Since(co.CredentialIssued) > 30*time.Minute {
			t.Errorf("condition %+v", co)
		}

		a.Inject(pushtest.Fault{Status: 403, Reason: "InvalidProviderToken"})
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.ProviderDown)
		if got := explain(); !strings.Contains(got, "breaker=open: InvalidProviderToken, next try in 5s") {
			t.Errorf("refused: %s", got)
		}
		co := c.Condition()
		if !co.Open || co.Trouble == nil || co.Trouble.Kind != push.TroubleAuth || co.Trouble.Remedy == "" {
			t.Errorf("condition %+v", co)
		}
		phone.Sandbox = true
		if got := explain(); !strings.Contains(got, "environment=sandbox") || strings.Contains(got, "secret") {
			t.Errorf("sandbox: %s", got)
		}
		c.Close()
		if n := c.Condition().Connections; n != 0 {
			t.Errorf("%d connections after the end", n)
		}
	})
}
