package webpush_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
	"sallyport/core/push/webpush"
)

// egress is an HTTP proxy that knows CONNECT alone, and stands between a world
// and those inside.
type egress struct {
	w      *world
	listen *pushtest.Listener

	mu     sync.Mutex
	asked  []string // guarded by mu; what was to be connected to
	direct []string // guarded by mu; dialled past the proxy
	down   bool     // guarded by mu
}

// The proxy's address inside, and the credentials it wants.
const (
	egressAddr = "10.9.9.9:3128"
	egressURL  = "http://sally:port%2Fsecret@" + egressAddr
)

func (w *world) egress() *egress {
	e := &egress{w: w, listen: pushtest.NewListener()}
	w.wg.Go(func() {
		defer context.AfterFunc(w.ctx, func() { _ = e.listen.Close() })()
		for {
			c, err := e.listen.Accept()
			if err != nil {
				return
			}
			w.wg.Go(func() { e.serve(c) })
		}
	})
	return e
}

// dial is what those inside have for a network.
func (e *egress) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	e.mu.Lock()
	down := e.down
	if addr != egressAddr {
		e.direct = append(e.direct, addr)
	}
	e.mu.Unlock()
	switch {
	case addr != egressAddr:
		return e.w.dial(ctx, network, addr)
	case down:
		return nil, errors.New("connection refused")
	default:
		return e.listen.Dial(ctx, network, addr)
	}
}

func (e *egress) serve(c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(e.w.ctx, func() { _ = c.Close() })
	defer stop()
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	say := func(status string) { _, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\n\r\n") }
	if req.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("sally:port/secret")) {
		say("407 Proxy Authentication Required")
		return
	}
	e.mu.Lock()
	e.asked = append(e.asked, req.Host)
	e.mu.Unlock()
	host, port, _ := net.SplitHostPort(req.Host)
	addrs, err := e.w.resolve(e.w.ctx, host)
	if err != nil {
		say("502 Bad Gateway")
		return
	}
	far, err := e.w.dial(e.w.ctx, "tcp", net.JoinHostPort(addrs[0].String(), port))
	if err != nil {
		say("502 Bad Gateway")
		return
	}
	defer far.Close()
	say("200 OK")
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(far, c); _ = far.Close() })
	_, _ = io.Copy(c, far)
	_ = c.Close()
	wg.Wait()
}

func (e *egress) set(down bool) {
	e.mu.Lock()
	e.down = down
	e.mu.Unlock()
}

func (e *egress) config() webpush.Config {
	cfg := e.w.config()
	cfg.Dial, cfg.Proxy = e.dial, egressURL
	return cfg
}

// P15 for Web Push: CONNECT with credentials reaches the push service, no_proxy
// goes past it, and a proxy that was down is used as soon as it is back.
func TestP15_WebPushThroughAnEgressProxy(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, e := w.service("push.example", pushtest.WebPushConfig{}), w.egress()
		near := w.service("near.example", pushtest.WebPushConfig{})
		cfg := e.config()
		cfg.NoProxy = []string{"near.example"}
		c := w.client(cfg, nil, nil)
		token, past := s.subscribe(c.VAPID()), near.subscribe(c.VAPID())
		wantOutcome(t, c.Send(t.Context(), ring(token)), push.Accepted)
		if len(e.direct) != 0 || strings.Join(e.asked, " ") != "push.example:443" {
			t.Errorf("asked for %q, past the proxy %q", e.asked, e.direct)
		}
		wantOutcome(t, c.Send(t.Context(), ring(past)), push.Accepted)
		if len(e.direct) != 1 {
			t.Errorf("past the proxy %q, want near.example alone", e.direct)
		}
		e.set(true)
		c.Close()
		c = w.client(cfg, nil, nil)
		token = s.subscribe(c.VAPID())
		r := c.Send(t.Context(), tell(token))
		ok, last := c.Health()
		if r.Outcome != push.ProviderDown || ok || !strings.Contains(last, "push.proxy") || strings.Contains(r.Reason+last, "secret") {
			t.Errorf("while the proxy is down: %+v; %v %q", r, ok, last)
		}
		time.Sleep(time.Minute)
		e.set(false)
		wantOutcome(t, c.Send(t.Context(), tell(token)), push.Accepted)
		if ok, last := c.Health(); !ok {
			t.Errorf("the proxy is back: %s", last)
		}
	})
}

func TestAProxyThatWantsCredentialsIsAnAlarm(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, e := w.service("push.example", pushtest.WebPushConfig{}), w.egress()
		cfg := e.config()
		cfg.Proxy = "http://" + egressAddr
		c := w.client(cfg, nil, nil)
		r := c.Send(t.Context(), ring(s.subscribe(c.VAPID())))
		if ok, last := c.Health(); r.Outcome != push.ProviderDown || ok || !strings.Contains(last, "wants a user and a password") {
			t.Errorf("%+v; %v %q", r, ok, last)
		}
		// What the proxy says of one host is that one's affair.
		other := w.client(e.config(), nil, nil)
		other.Send(t.Context(), ring(push.Token{Value: "https://push.example:444/x"}))
		if ok, last := other.Health(); !ok {
			t.Errorf("a host out of reach is an alarm: %s", last)
		}
	})
}

// P31 with a proxy: it resolves for itself, so what resolves inside here, or
// not at all, is not given to it; a host that allow names is.
func TestP31_TheProxyIsNotSentInside(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, e := w.service("push.example", pushtest.WebPushConfig{}), w.egress()
		blind := func(context.Context, string) ([]netip.Addr, error) {
			return nil, errors.New("no DNS for the outside here")
		}
		inside := func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("10.0.0.7")}, nil
		}
		for name, c := range map[string]struct {
			token   string
			resolve func(context.Context, string) ([]netip.Addr, error)
			allow   []string
			want    string
		}{
			"an address inside":         {"https://10.0.0.1/x", nil, nil, "private"},
			"a name that leads inside":  {"https://printer.corp.example/x", inside, nil, "private"},
			"a name unknown here":       {"https://push.example/x", blind, nil, "add it to allow"},
			"another name than allowed": {"https://printer.corp.example/x", blind, []string{"push.example"}, "not in allow"},
		} {
			cfg := e.config()
			cfg.Allow = c.allow
			if c.resolve != nil {
				cfg.Resolve = c.resolve
			}
			r := w.client(cfg, nil, nil).Send(t.Context(), ring(push.Token{Value: c.token}))
			if r.Outcome != push.Refused || !strings.Contains(r.Reason, c.want) {
				t.Errorf("%s: %+v, want %q", name, r, c.want)
			}
		}
		if len(e.asked) != 0 {
			t.Errorf("the proxy was asked for %q", e.asked)
		}
		cfg := e.config()
		cfg.Allow, cfg.Resolve = []string{"push.example"}, blind
		c := w.client(cfg, nil, nil)
		wantOutcome(t, c.Send(t.Context(), ring(s.subscribe(c.VAPID()))), push.Accepted)
	})
}
