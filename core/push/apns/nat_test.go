package apns_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
)

// nat is a translator that forgets a connection on which nothing was sent or
// received for a while: from then on all is lost, in both directions, and no
// end is told.
type nat struct {
	net.Conn
	forgets time.Duration

	mu    sync.Mutex
	last  time.Time // guarded by mu
	gone  bool      // guarded by mu
	ended chan struct{}
	once  sync.Once
}

// behindNAT dials through one.
func behindNAT(l *pushtest.Listener, forgets time.Duration) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := l.Dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &nat{Conn: c, forgets: forgets, last: time.Now(), ended: make(chan struct{})}, nil
	}
}

// passes reports whether a packet gets through.
func (n *nat) passes() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	n.gone = n.gone || now.Sub(n.last) >= n.forgets
	n.last = now
	return !n.gone
}

func (n *nat) Write(p []byte) (int, error) {
	if !n.passes() {
		return len(p), nil
	}
	return n.Conn.Write(p)
}

func (n *nat) Read(p []byte) (int, error) {
	k, err := n.Conn.Read(p)
	if err == nil && !n.passes() {
		<-n.ended
		return 0, net.ErrClosed
	}
	return k, err
}

func (n *nat) Close() error {
	n.once.Do(func() { close(n.ended) })
	return n.Conn.Close()
}

func TestP34_QuietHourBehindANATThatForgets(t *testing.T) {
	for name, forgets := range map[string]time.Duration{
		"after 5 min":  5 * time.Minute,
		"after 30 s":   30 * time.Second, // sooner than we ping
		"after an age": 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
				cfg := a.config()
				cfg.Dial = behindNAT(l, forgets)
				c := a.client(cfg)
				phone := a.phone(push.KindVoIP)
				for range 3 {
					start := time.Now()
					wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
					if took := time.Since(start); took > push.CallTimeout {
						t.Errorf("took %v", took)
					}
					time.Sleep(time.Hour)
				}
				if n := a.Stats().Pings; n > 3*120 {
					t.Errorf("%d pings in three hours", n)
				}
			})
		})
	}
}

// A NAT that is restarted has forgotten all at once.
func TestP34_APathThatDiedIsFoundByThePing(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c := a.client(cfg)
		phone := a.phone(push.KindVoIP)
		for _, idle := range []time.Duration{0, 2 * time.Minute} {
			wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
			a.BlackHole()
			time.Sleep(idle)
			start := time.Now()
			wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
			most := push.CallTimeout
			if idle > 0 {
				most = time.Second // the ping has found it
			}
			if took := time.Since(start); took > most {
				t.Errorf("after %v: took %v", idle, took)
			}
		}
	})
}
