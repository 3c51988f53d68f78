package fcm_test

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
	"sallyport/core/push/fcm"
	"sallyport/core/push/pushtest"
)

// egress is an HTTP proxy that knows CONNECT and Basic credentials, in a
// bubble.
type egress struct {
	t     *testing.T
	to    *google
	front *pushtest.Listener
	wg    sync.WaitGroup

	mu    sync.Mutex
	down  bool           // guarded by mu
	conns []net.Conn     // guarded by mu
	asked map[string]int // guarded by mu; by host and status
}

const proxyAddr = "proxy.example.com:3128"

func newEgress(t *testing.T, g *google) *egress {
	e := &egress{t: t, to: g, front: pushtest.NewListener(), asked: map[string]int{}}
	e.wg.Go(func() {
		for {
			c, err := e.front.Accept()
			if err != nil {
				return
			}
			e.wg.Go(func() { e.serve(c) })
		}
	})
	t.Cleanup(func() { _ = e.front.Close(); e.cut(); e.wg.Wait() })
	return e
}

// config goes through the proxy with the password.
func (e *egress) config(password string) fcm.Config {
	cfg := e.to.config()
	cfg.Proxy = "http://edge:" + password + "@" + proxyAddr
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		switch {
		case addr != proxyAddr:
			return nil, errors.New("the firewall lets nobody pass but the proxy")
		case e.down:
			return nil, errors.New("connection refused")
		}
		return e.front.Dial(ctx, network, addr)
	}
	return cfg
}

func (e *egress) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	r, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	status := http.StatusOK
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("edge:secret"))
	if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != want {
		status = http.StatusProxyAuthRequired
	}
	e.mu.Lock()
	e.asked[r.Host+" "+http.StatusText(status)]++
	e.conns = append(e.conns, c)
	e.mu.Unlock()
	_, _ = io.WriteString(c, "HTTP/1.1 "+map[int]string{200: "200 OK", 407: "407 Proxy Authentication Required"}[status]+"\r\n\r\n")
	if status != http.StatusOK {
		return
	}
	out, err := e.to.dial(context.Background(), "tcp", r.Host)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	e.wg.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
	_, _ = io.Copy(c, out)
}

// cut ends all connections through the proxy.
func (e *egress) cut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.conns {
		_ = c.Close()
	}
	e.conns = nil
}

func (e *egress) set(down bool) {
	e.mu.Lock()
	e.down = down
	e.mu.Unlock()
	e.cut()
}

func TestP15_FCMAndItsOAuthGoThroughTheEgressProxy(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		e := newEgress(t, g)
		c := g.running(e.config("secret"))
		for range 5 {
			wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
			wantOutcome(t, c.Send(t.Context(), tell(g.phone())), push.Accepted)
		}
		host := strings.TrimPrefix(g.URL(), "https://")
		if n := e.asked[host+" OK"]; n != 3 || len(e.asked) != 1 {
			t.Errorf("the proxy was asked for %v, want three connections to %s", e.asked, host)
		}
		for _, f := range c.Explain(push.Token{}, push.VoIP) {
			if f.Name == "proxy" && f.Value != "http://"+proxyAddr || strings.Contains(f.Value, "secret") {
				t.Errorf("explains %+v", f)
			}
		}
		g.clean()
	})
}

func TestP15_AProxyThatComesBackIsUsedWithin5Seconds(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{TokenLife: 2 * time.Minute}, func(t *testing.T, g *google) {
		e := newEgress(t, g)
		c := g.running(e.config("secret"))
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		e.set(true)
		for range 6 { // in five minutes the access token expires too
			time.Sleep(50 * time.Second)
			start := time.Now()
			r := c.Send(callContext(t), ring(g.phone()))
			if r.Outcome != push.ProviderDown || r.Retry != 10*time.Second || time.Since(start) > push.CallTimeout {
				t.Errorf("%+v after %v", r, time.Since(start))
			}
		}
		if co := c.Condition(); co.Trouble == nil || co.Trouble.Kind != push.TroubleProxy || co.Open {
			t.Errorf("condition %+v %+v", co, co.Trouble)
		}
		e.set(false)
		time.Sleep(5 * time.Second)
		if co := c.Condition(); co.CredentialIssued.Before(time.Now().Add(-5 * time.Second)) {
			t.Errorf("access token of %v", co.CredentialIssued)
		}
		start := time.Now()
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		wantOutcome(t, c.Send(t.Context(), tell(g.phone())), push.Accepted)
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if ok, last := c.Health(); !ok {
			t.Errorf("health: %s", last)
		}
		g.clean()
	})
}

func TestP15_AProxyThatRefusesIsNamedWithTheRemedy(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		e := newEgress(t, g)
		cfg := e.config("wrong")
		var log logs
		c, err := fcm.New(cfg, log.logger(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r := c.Send(callContext(t), ring(g.phone()))
		if r.Outcome != push.ProviderDown || r.Reason != "no access token: the egress proxy answers 407 to CONNECT" {
			t.Errorf("%+v", r)
		}
		tr := c.Condition().Trouble
		if tr == nil || tr.Kind != push.TroubleProxy || tr.Remedy != "are user and password in push.proxy right?" {
			t.Errorf("trouble %+v", tr)
		}
		if text := log.String(); strings.Contains(text, "wrong") || strings.Contains(text, "edge:") {
			t.Errorf("the log shows credentials:\n%s", text)
		}
	})
}

func TestP15_HostsOfNoProxyAreReachedDirectly(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		e := newEgress(t, g)
		cfg := e.config("secret")
		cfg.NoProxy, cfg.Dial = []string{"127.0.0.0/8"}, g.dial
		c := g.client(cfg)
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		if len(e.asked) != 0 {
			t.Errorf("the proxy was asked for %v", e.asked)
		}
	})
}
