package pushtest_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"sallyport/core/push/pushtest"
)

func TestRule2_StreamsOfAConnectionAreDrawn(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{RandomStreams: true}, func(t *testing.T, p *provider) {
		seen := make(map[string]bool)
		for range 5 {
			r := p.raw()
			r.finish(r.open(p.call(p.phone(), nil)))
			seen[strings.Join(r.read(), " ")] = true
		}
		if len(seen) < 2 {
			t.Errorf("five connections saw %v", seen)
		}
	})
}

func TestRule8_TheServicesClock(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{ClockSkew: -65 * time.Minute}, func(t *testing.T, p *provider) {
		phone := p.phone()
		at := func(d time.Duration) func(*request) {
			return set("authorization", "bearer "+p.sign("ES256", p.kid, p.team, time.Now().Add(d)))
		}
		p.want(p.call(phone, at(0)), "403 ExpiredProviderToken")
		p.reconnect()
		p.want(p.call(phone, at(-65*time.Minute)), "200")
	})
}

func TestRule22_TooManyPushesToOneToken(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{TokenRate: 2}, func(t *testing.T, p *provider) {
		phone, other := p.phone(), p.phone()
		p.want(p.call(phone, nil), "200")
		p.want(p.call(phone, nil), "200")
		p.want(p.call(phone, nil), "429 TooManyRequests")
		p.want(p.call(other, nil), "200")
		time.Sleep(time.Second)
		p.want(p.call(phone, nil), "200")
	})
}

func TestRule25_IdleConnectionIsEnded(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{IdleTimeout: time.Minute}, func(t *testing.T, p *provider) {
		r := p.raw()
		phone := p.phone()
		for range 3 { // each push begins the minute anew
			r.finish(r.open(p.call(phone, nil)))
			r.read()
			time.Sleep(50 * time.Second)
		}
		start := time.Now()
		r.want(`goaway 5 {"reason":"IdleTimeout"}`)
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("ended %v later, want 10s", took)
		}
		r.finish(r.open(p.call(phone, nil))) // above the last stream: not looked at
		r.want("end")
		if n := len(p.sim.Pushes()); n != 3 {
			t.Errorf("%d pushes, want 3", n)
		}
		synctest.Wait()
		if n := p.sim.Stats().Open; n != 0 {
			t.Errorf("%d connections are open", n)
		}
	})
}

func TestRule25_ShutdownAnswersWhatIsUnderWay(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		r := p.raw()
		phone := p.phone()
		r.finish(r.open(p.call(phone, nil)))
		r.read()
		under := r.open(p.call(phone, nil))
		synctest.Wait()
		p.sim.GoAway("Shutdown")
		r.want(`goaway 3 {"reason":"Shutdown"}`)
		r.open(p.call(phone, nil)) // ignored
		r.finish(under)
		r.want("status=200")
		start := time.Now()
		r.want("end")
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("closed after %v", took)
		}
		if n := len(p.sim.Pushes()); n != 2 {
			t.Errorf("%d pushes, want 2", n)
		}
	})
}

func TestRule26_FaultsInTheirTime(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		phone := p.phone()
		p.sim.Inject(pushtest.Fault{Status: 500, Reason: "InternalServerError", Every: 3, Count: -1})
		for range 3 {
			p.want(p.call(phone, nil), "200")
			p.want(p.call(phone, nil), "200")
			p.want(p.call(phone, nil), "500 InternalServerError")
		}
		p.sim.ClearFaults()
		p.want(p.call(phone, nil), "200")

		p.sim.SetHandshakeDelay(3 * time.Second)
		p.reconnect()
		start := time.Now()
		p.want(p.call(phone, nil), "200")
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("slow TLS took %v", took)
		}
		p.sim.ClearFaults()

		if p.sim.After(1, "explode") {
			t.Error("there is an action explode")
		}
		p.sim.After(2, "black_hole")
		p.want(p.call(phone, nil), "200")
		p.want(p.call(phone, nil), "200")
		if _, err := p.try(p.call(phone, nil)); err == nil {
			t.Error("the third push is answered")
		}
		p.sim.Disconnect()
		p.reconnect()
		p.want(p.call(phone, nil), "200")
	})
}

// Whoever has an answer in hand plans for the pushes after it, however slowly
// the simulator puts that one away.
func TestRule26_FaultsAreCountedFromTheNextPush(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		phone := p.phone()
		var once sync.Once
		p.sim.OnAnswer = func(pushtest.Push) {
			once.Do(func() { p.sim.After(1, "black_hole") })
		}
		p.want(p.call(phone, nil), "200")
		p.want(p.call(phone, nil), "200")
		if _, err := p.try(p.call(phone, nil)); err == nil {
			t.Error("the push after one more is answered")
		}
	})
}

func TestRule26_ResetComesAmidTheAnswer(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		r := p.raw()
		call := p.call(p.phone(), nil)
		r.finish(r.open(call))
		r.read()
		p.sim.Inject(pushtest.Fault{Reset: true})
		r.finish(r.open(call))
		r.want("status=200 INTERNAL_ERROR")
	})
}

func TestRule27_ConnectionsInAMinute(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{ConnRate: 3}, func(t *testing.T, p *provider) {
		for range 3 {
			p.raw()
		}
		time.Sleep(time.Minute)
		for range 3 {
			p.raw()
		}
		synctest.Wait()
		if v := p.sim.Violations(); len(v) != 0 {
			t.Fatalf("three in a minute: %q", v)
		}
		for range 10 {
			p.raw()
		}
		synctest.Wait()
		if v := p.sim.Violations(); len(v) != 1 || !strings.Contains(v[0], "connection 7: more than 3 connections") {
			t.Errorf("violations %q", v)
		}
	})
	inBubble(t, pushtest.APNsConfig{ConnRate: -1}, func(t *testing.T, p *provider) {
		for range 100 {
			p.raw()
		}
		synctest.Wait()
		if v := p.sim.Violations(); len(v) != 0 {
			t.Errorf("nobody counts: %q", v)
		}
	})
}

func TestRule28_PingsAreCounted(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		r := p.raw()
		ping := func() {
			if err := r.framer.WritePing(false, [8]byte{1}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		time.Sleep(61 * time.Minute)
		ping()
		if w := p.sim.Warnings(); len(w) != 0 {
			t.Errorf("a ping after an hour: %q", w)
		}
		r.finish(r.open(p.call(p.phone(), nil)))
		r.read()
		time.Sleep(59 * time.Minute)
		ping()
		ping()
		if w := p.sim.Warnings(); len(w) != 1 || !strings.Contains(w[0], "PING after 59m0s") {
			t.Errorf("warnings %q", w)
		}
		if st := p.sim.Stats(); st.Pings != 3 || st.EarlyPings != 2 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestRule29_NoPriorities(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		r := p.raw()
		if err := r.framer.WritePriority(1, http2.PriorityParam{Weight: 7}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if v := p.sim.Violations(); len(v) != 1 || !strings.Contains(v[0], "PRIORITY frame") {
			t.Errorf("violations %q", v)
		}
		err := r.framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 3, BlockFragment: r.fields(p.call(p.phone(), nil)), EndHeaders: true, Priority: http2.PriorityParam{Weight: 7},
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if v := p.sim.Violations(); len(v) != 2 || !strings.Contains(v[1], "priority") {
			t.Errorf("violations %q", v)
		}
	})
}
