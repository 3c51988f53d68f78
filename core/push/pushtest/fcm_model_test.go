package pushtest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push/pushtest"
)

func TestFCMRule08_Quotas(t *testing.T) {
	t.Run("project, in a window of its own", func(t *testing.T) {
		withFCM(t, pushtest.FCMConfig{PerMinute: 10, RetryAfter: 42 * time.Second}, func(t *testing.T, p *sender) {
			time.Sleep(17 * time.Second)
			for i := range 10 {
				body := call(p.phone(pushtest.FCMApp{}))
				if i < 5 {
					body = "{" // what is refused counts as well
				}
				p.send(body)
				time.Sleep(5 * time.Second)
			}
			phone := p.phone(pushtest.FCMApp{})
			a := p.send(call(phone))
			if a.status != 429 || a.reason != "QUOTA_EXCEEDED" || a.header.Get("Retry-After") != "42" {
				t.Errorf("eleventh in a minute: %+v", a)
			}
			time.Sleep(42 * time.Second)
			if a := p.send(call(phone)); a.status != 200 {
				t.Errorf("next minute: %+v", a)
			}
			p.violated("")
		})
	})
	t.Run("device, 240 a minute", func(t *testing.T) {
		withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
			phone := p.phone(pushtest.FCMApp{})
			n := 0
			for p.send(call(phone, "call", fmt.Sprint("call ", n))).status == 200 {
				n++
			}
			if n != 240 {
				t.Errorf("%d messages taken in a minute", n)
			}
			if a := p.send(call(p.phone(pushtest.FCMApp{}))); a.status != 200 {
				t.Errorf("another device: %+v", a)
			}
			time.Sleep(time.Minute)
			if a := p.send(call(phone)); a.status != 200 {
				t.Errorf("the next minute: %+v", a)
			}
		})
	})
	t.Run("device, 5000 an hour", func(t *testing.T) {
		sim, token, now := pushtest.NewFCM(pushtest.FCMConfig{}), pushtest.NewFCMToken(), time.Now()
		n := 0
		for minute := range 60 {
			for pushtest.WithinQuota(sim, token, now.Add(time.Duration(minute)*time.Minute)) {
				n++
			}
		}
		if n != 5000 || !pushtest.WithinQuota(sim, token, now.Add(time.Hour)) {
			t.Errorf("%d messages taken in an hour", n)
		}
	})
	t.Run("collapsible, 20 and one more every three minutes, not with ttl 0", func(t *testing.T) {
		withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
			phone := p.phone(pushtest.FCMApp{})
			send := func(i int, ttl string) int {
				return p.send(call(phone, "call", fmt.Sprint(i), `"ttl":"0s"`, `"collapse_key":"k","ttl":"`+ttl+`"`)).status
			}
			n := 0
			for send(n, "60s") == 200 {
				n++
			}
			if n != 20 || send(98, "0s") != 200 {
				t.Errorf("burst of %d, want 20; with ttl 0 there is no limit", n)
			}
			time.Sleep(3 * time.Minute)
			if a, b := send(99, "60s"), send(100, "60s"); a != 200 || b != 429 {
				t.Errorf("after three minutes %d and %d, want 200 and 429", a, b)
			}
		})
	})
}

func TestFCMRule09_Stored(t *testing.T) {
	withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
		phone := p.phone(pushtest.FCMApp{Offline: true})
		send := func(change ...string) {
			t.Helper()
			if a := p.send(call(phone, change...)); a.status != 200 {
				t.Fatal(a)
			}
		}
		events := func() (out []string) {
			p.sim.Register(phone, pushtest.FCMApp{})
			for _, d := range p.sim.Delivered(phone) {
				if d.Deleted {
					out = append(out, "deleted")
				} else {
					out = append(out, d.Message.Data["event"])
				}
			}
			p.sim.Register(phone, pushtest.FCMApp{Offline: true})
			slices.Sort(out)
			return out
		}
		send() // ttl 0: now or never
		send("call", "short", `"0s"`, `"10s"`)
		time.Sleep(10 * time.Second)
		for i := range 5 { // the first key goes
			send("call", fmt.Sprint("old", i), `"ttl":"0s"`, fmt.Sprintf(`"collapse_key":"k%d"`, i))
			send("call", fmt.Sprint("new", i), `"ttl":"0s"`, fmt.Sprintf(`"collapse_key":"k%d"`, i))
		}
		send("call", "plain", `"0s"`, `"60s"`)
		want := []string{"new1", "new2", "new3", "new4", "plain"}
		if got := events(); !slices.Equal(got, want) {
			t.Errorf("delivered %q, want %q", got, want)
		}
		for i := range 101 {
			send("call", fmt.Sprint("plain", i), `"0s"`, `"60s"`)
		}
		if got := events(); !slices.Equal(got, slices.Insert(slices.Clone(want), 0, "deleted")) {
			t.Errorf("after 101 stored messages %q", got)
		}
	})
}

func TestFCMRule10_HighMessagesThatShowNothingBecomeNormal(t *testing.T) {
	withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
		phone := p.phone(pushtest.FCMApp{})
		last := func(i int) pushtest.FCMDelivery {
			t.Helper()
			p.login()
			p.send(call(phone, "call", fmt.Sprint(i), "0s", "3600s"))
			d := p.sim.Delivered(phone)
			return d[len(d)-1]
		}
		for i := range 5 {
			d := last(i)
			if d.Deprioritized {
				t.Fatalf("message %d came as normal", i)
			}
			if i < 2 {
				p.sim.Show(phone, d.Message.Name)
			}
		}
		if d := last(5); !d.Deprioritized {
			t.Error("three of five without effect, and the sixth came as high")
		}
		p.sim.Register(phone, pushtest.FCMApp{Doze: true})
		n := len(p.sim.Delivered(phone))
		p.send(call(phone, "call", "dozing", "0s", "3600s"))
		if got := p.sim.Delivered(phone); len(got) != n {
			t.Errorf("a message that was made normal reached a device in Doze")
		}
		time.Sleep(time.Minute)
		p.sim.Register(phone, pushtest.FCMApp{})
		if got := p.sim.Delivered(phone); len(got) != n+1 || !got[n].Deprioritized {
			t.Error("it did not come after Doze")
		}
		time.Sleep(7 * 24 * time.Hour)
		if d := last(6); d.Deprioritized {
			t.Error("a week later it is not forgiven")
		}
	})
}

func TestFCMRule11_FailedYetDelivered(t *testing.T) {
	withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
		phone := p.phone(pushtest.FCMApp{})
		p.sim.Inject(pushtest.Fault{Status: 503, Delivered: true})
		if a := p.send(call(phone)); a.status != 503 || a.code != "UNAVAILABLE" {
			t.Errorf("%+v", a)
		}
		time.Sleep(10 * time.Second)
		p.send(call(phone))
		p.send(call(phone, "call", "another"))
		var got []bool
		for _, d := range p.sim.Delivered(phone) {
			got = append(got, d.Duplicate)
		}
		if !slices.Equal(got, []bool{false, true, false}) {
			t.Errorf("duplicates %v, want the second alone", got)
		}
		p.sim.Inject(pushtest.Fault{Status: 500})
		p.send(call(phone, "call", "lost"))
		if n := len(p.sim.Delivered(phone)); n != 3 {
			t.Errorf("a message that failed was delivered")
		}
		p.violated("")
	})
}

func TestFCMRule12_RetryMeter(t *testing.T) {
	for name, tc := range map[string]struct {
		fault pushtest.Fault
		wait  time.Duration
	}{
		"ten seconds after 503":      {pushtest.Fault{Status: 503}, 10 * time.Second},
		"ten seconds after 500":      {pushtest.Fault{Status: 500, Reason: "INTERNAL"}, 10 * time.Second},
		"a minute after 429":         {pushtest.Fault{Status: 429, Reason: "QUOTA_EXCEEDED"}, time.Minute},
		"Retry-After longer":         {pushtest.Fault{Status: 503, RetryAfter: 90}, 90 * time.Second},
		"Retry-After shorter":        {pushtest.Fault{Status: 429, RetryAfter: 20}, 20 * time.Second},
		"a page of a front end, 502": {pushtest.Fault{HTML: true}, 10 * time.Second},
	} {
		for _, early := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " early ", early), func(t *testing.T) {
				withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
					phone := p.phone(pushtest.FCMApp{})
					p.sim.Inject(tc.fault)
					p.send(call(phone))
					p.send(call(phone, "call", "another")) // not a retry
					wait, want := tc.wait, ""
					if early {
						wait, want = wait-time.Second, "too soon"
					}
					time.Sleep(wait)
					if a := p.send(call(phone)); a.status != 200 {
						t.Errorf("%+v", a)
					}
					p.violated(want)
				})
			})
		}
	}
}

func TestFCMRule13_ValidateOnlyDeliversNothing(t *testing.T) {
	withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
		phone := p.phone(pushtest.FCMApp{})
		for _, name := range []string{"validate_only", "validateOnly"} {
			a := p.send(call(phone, `{"message"`, `{"`+name+`":true,"message"`))
			if a.status != 200 || !strings.HasSuffix(a.text, "/messages/fake_message_id") {
				t.Errorf("%+v", a)
			}
		}
		if a := p.send(call("bad", `{"message"`, `{"validate_only":true,"message"`)); a.status != 400 {
			t.Errorf("bad token: %+v", a)
		}
		if n, m := len(p.sim.Delivered(phone)), len(p.sim.Accepted()); n != 0 || m != 0 {
			t.Errorf("%d delivered, %d accepted", n, m)
		}
		if got := p.sim.Pushes(); len(got) != 3 || !got[0].ValidateOnly {
			t.Errorf("recorded %v", got)
		}
	})
}

func TestFCMRule14_StreamsAndGoAway(t *testing.T) {
	t.Run("GOAWAY after so many requests", func(t *testing.T) {
		withFCM(t, pushtest.FCMConfig{GoAwayAfter: 3}, func(t *testing.T, p *sender) {
			phone := p.phone(pushtest.FCMApp{})
			for i := range 8 { // with the login, nine requests
				p.send(call(phone, "call", fmt.Sprint(i)))
				synctest.Wait() // the client has read GOAWAY
			}
			if opened, _ := p.sim.Connections(); opened != 3 {
				t.Errorf("%d connections for nine requests, want 3", opened)
			}
		})
	})
	t.Run("GOAWAY now", func(t *testing.T) {
		withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
			phone := p.phone(pushtest.FCMApp{})
			p.sim.SetLatency(time.Second)
			var wg sync.WaitGroup
			wg.Go(func() { // under way, and answered
				if a := p.send(call(phone)); a.status != 200 {
					t.Errorf("%+v", a)
				}
			})
			synctest.Wait()
			p.sim.GoAway()
			synctest.Wait()
			p.send(call(phone, "call", "another"))
			wg.Wait()
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if opened, open := p.sim.Connections(); opened != 2 || open != 1 {
				t.Errorf("%d opened, %d open; want 2 and 1", opened, open)
			}
		})
	})
	t.Run("a hundred at a time", func(t *testing.T) {
		withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
			phone := p.phone(pushtest.FCMApp{})
			p.sim.SetLatency(time.Second)
			var wg sync.WaitGroup
			for i := range 101 {
				wg.Go(func() { p.send(call(phone, "call", fmt.Sprint(i))) })
			}
			wg.Wait()
			if opened, _ := p.sim.Connections(); opened != 2 {
				t.Errorf("%d connections for 101 requests at a time, want 2", opened)
			}
		})
	})
}

func TestFCMFaults(t *testing.T) {
	withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
		phone := p.phone(pushtest.FCMApp{})
		try := func() error {
			_, _, _, err := p.try(p.path(), "application/json", call(phone))
			return err
		}
		p.sim.Inject(pushtest.Fault{Drop: true})
		if err := try(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drop: %v", err)
		}
		p.sim.Inject(pushtest.Fault{Reset: true})
		if err := try(); err == nil {
			t.Error("reset: no error")
		}
		p.sim.BlackHole()
		if err := try(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("black hole: %v", err)
		}
		p.sim.Disconnect()
		synctest.Wait()
		if err := try(); err != nil {
			t.Errorf("after a disconnect: %v", err)
		}
		p.sim.Inject(pushtest.Fault{OAuth: true, Status: 503, Reason: "temporarily_unavailable"})
		if token, fault := p.grant(jwtBearer, p.assertion(nil)); token != "" || fault != "temporarily_unavailable" {
			t.Errorf("token endpoint: %q %q", token, fault)
		}
		p.sim.Inject(pushtest.Fault{Status: 500, Count: 5})
		p.sim.SetLatency(time.Hour)
		p.sim.ClearFaults()
		if err := try(); err != nil {
			t.Errorf("after ClearFaults: %v", err)
		}
		if p.sim.Accepted()[0].Status != http.StatusOK {
			t.Error("nothing accepted")
		}
	})
}
