package pushtest_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push/pushtest"
)

// ring pushes a call with an id of its own.
func (p *provider) ring(token, call, id string) {
	p.t.Helper()
	p.want(p.call(token, all(set("apns-id", id), func(r *request) { r.body = `{"aps":{},"uuid":"` + call + `"}` })), "200")
}

// tell pushes a note with a payload of n bytes, by which it is known again, and
// that is kept for a time; 0 is not at all.
func (p *provider) tell(token string, n int, keep time.Duration) {
	p.t.Helper()
	expiration := "0"
	if keep > 0 {
		expiration = strconv.FormatInt(time.Now().Add(keep).Unix(), 10)
	}
	p.want(p.call(token, all(note, body(n), set("apns-expiration", expiration))), "200")
}

// arrived are the sizes of the pushes that reached a device since the last
// time, those that were stored behind a plus sign.
func (p *provider) arrived(seen *int) string {
	synctest.Wait() // a push reaches its device after it is answered
	var out []string
	all := p.sim.Deliveries()
	for _, d := range all[*seen:] {
		text := strconv.Itoa(len(d.Push.Payload))
		if d.Stored {
			text = "+" + text
		}
		out = append(out, text)
	}
	*seen = len(all)
	return strings.Join(out, " ")
}

func TestRule23_OnePushIsKeptForAnAppThatIsOffline(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		var seen int
		want := func(what, want string) {
			t.Helper()
			if got := p.arrived(&seen); got != want {
				t.Errorf("%s: %q arrived, want %q", what, got, want)
			}
		}
		token, other := pushtest.NewToken(), pushtest.NewToken()
		p.sim.Register(token, pushtest.Device{Topic: bundle, Phone: "alice"})
		p.sim.Register(other, pushtest.Device{Topic: bundle + ".chat", Phone: "alice", Offline: true})
		p.tell(token, 100, time.Hour)
		want("online", "100")

		p.sim.SetOnline(token, false)
		p.tell(token, 101, time.Hour)
		time.Sleep(time.Second)
		p.tell(token, 102, time.Hour)
		time.Sleep(time.Second)
		p.want(p.call(other, all(note, set("apns-topic", bundle+".chat"), body(103), set("apns-expiration"))), "200")
		p.tell(token, 104, 0) // for now alone
		want("offline", "")
		p.sim.SetOnline(token, true)
		want("back: the newest of each app, the newest first", "+103 +102")

		p.sim.SetOnline(token, false)
		p.tell(token, 105, time.Minute)
		time.Sleep(2 * time.Minute)
		p.sim.SetOnline(token, true)
		want("back too late", "")
	})
}

func TestRule24_ACallIsPushedOnceAndReported(t *testing.T) {
	const one, two = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
	for name, c := range map[string]struct {
		act  func(p *provider, phone string)
		want string // a violation, or "" for none
	}{
		"reported in time": {func(p *provider, phone string) {
			p.ring(phone, "call-1", one)
			time.Sleep(time.Second)
			if !p.sim.Report(phone, "call-1") {
				p.t.Error("the call is not known")
			}
		}, ""},
		"not reported": {func(p *provider, phone string) {
			p.ring(phone, "call-1", one)
			if p.sim.Report(phone, "call-2") {
				p.t.Error("a call that nobody pushed is known")
			}
		}, "not reported within 5s"},
		"pushed to two phones": {func(p *provider, phone string) {
			other := p.phone()
			p.ring(phone, "call-1", one)
			p.ring(other, "call-1", two)
			synctest.Wait()
			p.sim.Report(phone, "call-1")
			p.sim.Report(other, "call-1")
		}, ""},
		"pushed twice": {func(p *provider, phone string) {
			p.ring(phone, "call-1", one)
			p.ring(phone, "call-1", two)
			synctest.Wait()
			p.sim.Report(phone, "call-1")
		}, "second voip push for one call"},
		"sent again under its id": {func(p *provider, phone string) {
			p.ring(phone, "call-1", one)
			p.ring(phone, "call-1", one)
			synctest.Wait()
			p.sim.Report(phone, "call-1")
			if n := p.sim.Stats().Duplicates; n != 1 {
				p.t.Errorf("%d duplicates, want 1", n)
			}
		}, ""},
		"pushed when it is over": {func(p *provider, phone string) {
			p.sim.FinishCall("call-1")
			p.ring(phone, "call-1", one)
			synctest.Wait()
			p.sim.Report(phone, "call-1")
		}, "call that is over"},
		"stored until it is over": {func(p *provider, phone string) {
			p.sim.SetOnline(phone, false)
			soon := strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10)
			p.want(p.call(phone, all(set("apns-expiration", soon), func(r *request) { r.body = `{"aps":{},"uuid":"call-1"}` })), "200")
			synctest.Wait()
			p.sim.FinishCall("call-1")
			p.sim.SetOnline(phone, true)
			p.sim.Report(phone, "call-1")
		}, "call that is over"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pushtest.APNsConfig{ReportWithin: 5 * time.Second}, func(t *testing.T, p *provider) {
				c.act(p, p.phone())
				time.Sleep(10 * time.Second)
				v := p.sim.Violations()
				if c.want == "" && len(v) != 0 || c.want != "" && (len(v) != 1 || !strings.Contains(v[0], c.want)) {
					t.Errorf("violations %q, want %q", v, c.want)
				}
				if again := p.sim.Violations(); len(again) != len(v) {
					t.Errorf("asked again: %q", again)
				}
			})
		})
	}
}

func TestRule24_TheCallsKeyIsTheAppsOwn(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{CallKey: "cid"}, func(t *testing.T, p *provider) {
		p.want(p.call(p.phone(), func(r *request) { r.body = `{"aps":{},"cid":"one","uuid":"two"}` }), "200")
		if got := p.sim.Accepted()[0].Call; got != "one" {
			t.Errorf("call %q", got)
		}
	})
}
