package xmpp

import (
	"strconv"
	"testing"
	"time"

	"sallyport/core"
)

// TestTXM5_EachMessageOnceAndInOrder is the ordeal through edge and core.
func TestTXM5_EachMessageOnceAndInOrder(t *testing.T) {
	eachServer(t, ServerConfig{}, func(t *testing.T, s *Server) {
		o := ordeal{messages: 400, resets: 12, cutLogins: true, back: 10 * time.Second}
		startSystem(t, s).ordeal(t, o, "tls")
	})
}

// TestTXM9_EachMessageOnceThoughTheCoreIsKilled adds kill -9 of the core.
func TestTXM9_EachMessageOnceThoughTheCoreIsKilled(t *testing.T) {
	eachServer(t, ServerConfig{}, func(t *testing.T, s *Server) {
		sys := startSystem(t, s)
		sys.apart(t)
		sys.ordeal(t, killed(ordeal{messages: 400, resets: 10}, s), "wss")
	})
}

// killed adds two kills. Towards Prosody nothing is sent then: half a stanza in
// a connection that breaks ends its session, see [TestDirectOrdeal].
func killed(o ordeal, s *Server) ordeal {
	o.kills, o.back, o.cutLogins, o.oneWay = 2, 20*time.Second, true, s.Kind == "prosody"
	return o
}

// ordeal runs one with the client outside, over a transport.
func (s *system) ordeal(t *testing.T, o ordeal, transport string) {
	t.Helper()
	ctx := within(t, 2*time.Minute)
	o.kill = s.killCore
	alice, bob, heardByAlice, heardByBob := pair(t, ctx, s.server, func(c *ClientConfig) {
		c.TLS = s.trust
		if c.URL = "tls://" + s.xmpps; transport == "wss" {
			c.URL = "wss://" + s.HTTPS + "/ws"
		}
	})
	o.run(t, ctx, alice, bob, heardByAlice, heardByBob)
}

// TestLong_TXM5 is the whole of it: 3,000 messages each way, 60 resets, ten runs
// for each server.
func TestLong_TXM5(t *testing.T) {
	takesLong(t)
	wholeOrdeals(t, "probe")
}

// TestLong_Swap is the same where the server resumes each time, too, so that
// what it does wrong in resuming shows again.
func TestLong_Swap(t *testing.T) {
	takesLong(t)
	wholeOrdeals(t, "swap")
}

// wholeOrdeals are those without a kill, with one way of coming back. With swap
// nothing is sent towards Prosody, see [TestDirectOrdeal].
func wholeOrdeals(t *testing.T, way string) {
	t.Helper()
	eachServer(t, ServerConfig{}, func(t *testing.T, s *Server) {
		sys := startSystem(t, s, func(c *core.Config) { c.IM.Resume = way })
		o := ordeal{messages: 3000, resets: 60, back: 10 * time.Second, oneWay: way == "swap" && s.Kind == "prosody"}
		for i := range *runs {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				o.cutLogins = i%2 == 1
				sys.ordeal(t, o, transportOf(i))
			})
		}
	})
}

// TestLong_TXM9 is the same with kill -9 of the core, twice a run.
func TestLong_TXM9(t *testing.T) {
	takesLong(t)
	eachServer(t, ServerConfig{}, func(t *testing.T, s *Server) {
		sys := startSystem(t, s)
		sys.apart(t)
		for i := range *runs {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				sys.ordeal(t, killed(ordeal{messages: 3000, resets: 60}, s), transportOf(i))
			})
		}
	})
}

func transportOf(i int) string { return []string{"tls", "wss"}[i%2] }
