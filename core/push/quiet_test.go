package push_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push"
)

func clock(t *testing.T, zone, text string) time.Time {
	t.Helper()
	at, err := time.ParseInLocation("2006-01-02 15:04", text, location(t, zone))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func location(t *testing.T, zone string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// at runs f at a time of a bubble's clock, which begins in 2000.
func at(t *testing.T, when time.Time, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(when))
		f(t)
	})
}

const (
	bob      = "sip:bob@example.com"
	bobPhone = bob + " urn:uuid:1"
)

func bobs() push.Target {
	return push.Target{
		Device: bobPhone, Class: "split",
		Tokens: []push.Token{apnsToken(push.KindVoIP, "v"), apnsToken(push.KindAlert, "a")},
	}
}

func night(t *testing.T, zone string) push.QuietRule {
	return push.QuietRule{AOR: "*", From: 22 * time.Hour, To: 7 * time.Hour, Zone: location(t, zone)}
}

func quietService(f *fake, rules ...push.QuietRule) *push.Service {
	return push.New(push.Config{Enabled: true, Quiet: rules}, apps(f), nil, nil)
}

func TestP30_NightsPassMidnightAndTheClockChange(t *testing.T) {
	for name, c := range map[string]struct {
		now   string
		until string // "" is not quiet
	}{
		"before it begins":             {"2026-06-10 21:59", ""},
		"as it begins":                 {"2026-06-10 22:00", "2026-06-11 07:00"},
		"after midnight":               {"2026-06-11 06:59", "2026-06-11 07:00"},
		"as it ends":                   {"2026-06-11 07:00", ""},
		"the last night of the year":   {"2026-12-31 23:30", "2027-01-01 07:00"},
		"clocks go forward":            {"2026-03-28 22:00", "2026-03-29 07:00"},
		"clocks go back":               {"2026-10-24 22:00", "2026-10-25 07:00"},
		"in the hour that comes twice": {"2026-10-25 02:30", "2026-10-25 07:00"},
	} {
		t.Run(name, func(t *testing.T) {
			at(t, clock(t, "Europe/Berlin", c.now), func(t *testing.T) {
				q := quietService(&fake{}, night(t, "Europe/Berlin")).QuietCall(bobs(), carol)
				if c.until == "" {
					if q != (push.Ruling{}) {
						t.Errorf("ruling %+v", q)
					}
					return
				}
				until := clock(t, "Europe/Berlin", c.until)
				if !q.Hold || !q.Until.Equal(until) || q.Reason != "quiet hours until 07:00 (Europe/Berlin)" {
					t.Errorf("ruling %+v, want until %v", q, until)
				}
			})
		})
	}
	long := clock(t, "Europe/Berlin", "2026-10-25 07:00").Sub(clock(t, "Europe/Berlin", "2026-10-24 22:00"))
	if long != 10*time.Hour {
		t.Errorf("the night in which clocks go back has %v", long)
	}
}

func TestP30_DaysAreThoseOnWhichItBegins(t *testing.T) {
	rule := night(t, "America/New_York")
	rule.Days = []time.Weekday{time.Friday, time.Saturday}
	for text, want := range map[string]bool{
		"2026-06-11 23:00": false, // Thursday
		"2026-06-12 23:00": true,  // Friday
		"2026-06-14 06:00": true,  // Sunday, of Saturday's night
		"2026-06-14 23:00": false, // Sunday
	} {
		at(t, clock(t, "America/New_York", text), func(t *testing.T) {
			if q := quietService(&fake{}, rule).QuietNote(bobs(), push.Note{Event: push.EventMessage}); q.Hold != want {
				t.Errorf("%s: %+v", text, q)
			}
		})
	}
}

func TestP30_TheFirstRuleThatFitsCounts(t *testing.T) {
	always := func(aor string, notes push.Manner, ring bool) push.QuietRule {
		return push.QuietRule{AOR: aor, Notes: notes, Ring: ring}
	}
	s := quietService(&fake{},
		push.QuietRule{AOR: bob, From: 12 * time.Hour, To: 13 * time.Hour},
		always("bob@EXAMPLE.com", push.MannerPassive, true),
		always("@sales.example", push.MannerPush, false),
		always("@sales.example", push.MannerHold, false))
	synctest.Test(t, func(t *testing.T) { // midnight
		for device, want := range map[string]push.Ruling{
			bobPhone:                               {Passive: true, Reason: "quiet hours"},
			"sip:bobby@example.com urn:uuid:1":     {},
			"sip:dave@sales.example urn:uuid:1":    {},
			"sip:dave@x.sales.example urn:uuid:1":  {},
			"sip:dave@sales.example.com urn:uuid:": {},
		} {
			if got := s.QuietNote(push.Target{Device: device}, push.Note{Event: push.EventMissed}); got != want {
				t.Errorf("%s: note %+v, want %+v", device, got, want)
			}
		}
		if s.QuietCall(bobs(), carol).Hold || !s.QuietCall(push.Target{Device: "sip:dave@sales.example urn:uuid:1"}, carol).Hold {
			t.Error("a call rings where it must not, or the other way")
		}
	})
}

func TestP30_ACallInQuietHoursIsNotPushedAndSaysUntilWhen(t *testing.T) {
	at(t, clock(t, "UTC", "2026-06-10 23:00"), func(t *testing.T) {
		f := &fake{}
		s := quietService(f, night(t, "UTC"))
		start := time.Now()
		r := s.Call(t.Context(), bobs(), carol)
		if r.Outcome != push.Quiet || r.Reason != "quiet hours until 07:00 (UTC)" || !time.Now().Equal(start) {
			t.Errorf("result %+v", r)
		}
		time.Sleep(8 * time.Hour)
		wantOutcome(t, s.Call(t.Context(), bobs(), carol), push.Accepted)
		if n := len(f.all()); n != 1 {
			t.Errorf("%d pushes", n)
		}
	})
}

func TestP30_ANoteIsHeldPassiveOrSent(t *testing.T) {
	for manner, want := range map[push.Manner]struct{ sent, passive bool }{
		"":                 {},
		push.MannerHold:    {},
		push.MannerPassive: {sent: true, passive: true},
		push.MannerPush:    {sent: true},
	} {
		at(t, clock(t, "UTC", "2026-06-10 23:00"), func(t *testing.T) {
			f := &fake{}
			rule := night(t, "UTC")
			rule.Notes = manner
			r := quietService(f, rule).Note(t.Context(), bobs(), push.Note{Event: push.EventMessage})
			if len(f.all()) == 0 {
				if want.sent || r.Outcome != push.Quiet || r.Retry != 8*time.Hour {
					t.Errorf("%q: not sent: %+v", manner, r)
				}
				return
			}
			if n := f.all()[0]; !want.sent || n.Passive != want.passive {
				t.Errorf("%q: sent %+v", manner, n)
			}
		})
	}
}

func TestP30_VIPsComeThrough(t *testing.T) {
	rule := push.QuietRule{AOR: "*", VIP: []string{"carol@example.com", "@hospital.example", "tel:+49-30-123"}}
	s := quietService(&fake{}, rule)
	for from, through := range map[string]bool{
		"sip:carol@example.com":                    true,
		"sips:carol@Example.COM:5061;user=phone":   true,
		"sip:carol;ext=1@example.com":              true,
		"sip:ward@hospital.example":                true,
		"tel:+4930123;phone-context=x":             true,
		"xmpp:carol@example.com":                   true,
		"xmpp:ward@hospital.example/Bob":           true, // an occupant of a room
		"xmpp:ward@evil.example/@hospital.example": false,
		"sip:Carol@example.com":                    false, // user parts are case sensitive
		"sip:carol@example.com.evil.example":       false,
		"sip:ward@evil.example;@hospital.example":  false,
		"sip:x@nothospital.example":                false,
		"sip:anonymous@anonymous.invalid":          false,
		"":                                         false,
		"carol":                                    false,
		"sip:[2001:db8::1]":                        false,
		"sip:carol@[2001:db8::1]:5060;transport=x": false,
	} {
		c := push.Call{CallID: "1", FromURI: from}
		if got := !s.QuietCall(bobs(), c).Hold; got != through {
			t.Errorf("%q comes through: %v", from, got)
		}
		if got := !s.QuietNote(bobs(), push.Note{Event: push.EventMessage, FromURI: from}).Hold; got != through {
			t.Errorf("message of %q comes through: %v", from, got)
		}
	}
}

func TestARequestToRegisterIsNeverHeld(t *testing.T) {
	s := quietService(&fake{}, push.QuietRule{AOR: "*"})
	if q := s.QuietNote(bobs(), push.Note{Event: push.EventRegister}); q != (push.Ruling{}) {
		t.Errorf("ruling %+v", q)
	}
}

// shelf is a DNDStore that two services may share.
type shelf struct {
	mu      sync.Mutex
	all     map[string][]byte                // guarded by mu
	watch   []func(key string, value []byte) // guarded by mu
	refuses error
}

func (s *shelf) Load(context.Context) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string][]byte)
	for k, v := range s.all {
		out[k] = v
	}
	return out, nil
}

func (s *shelf) Put(key string, value []byte) error {
	if s.refuses != nil {
		return s.refuses
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[string][]byte)
	}
	s.all[key] = value
	for _, w := range s.watch {
		w(key, value)
	}
	return nil
}

func (s *shelf) Delete(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, key)
	for _, w := range s.watch {
		w(key, nil)
	}
	return nil
}

func (s *shelf) Watch(ctx context.Context, changed func(key string, value []byte)) error {
	s.mu.Lock()
	s.watch = append(s.watch, changed)
	s.mu.Unlock()
	<-ctx.Done()
	return nil
}

func TestP30_DoNotDisturbIsDurableAndSharedByCores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &shelf{}
		made := func() *push.Service {
			s := push.New(push.Config{Enabled: true, DND: disk, Quiet: []push.QuietRule{
				{AOR: bob, From: 22 * time.Hour, To: 7 * time.Hour, Notes: push.MannerPassive, VIP: []string{"@hospital.example"}},
			}}, apps(&fake{}), nil, nil)
			if err := s.LoadDND(t.Context()); err != nil {
				t.Fatal(err)
			}
			return s
		}
		time.Sleep(12 * time.Hour) // noon: no quiet hours
		one, two := made(), made()
		defer running(t, one)()
		defer running(t, two)()
		synctest.Wait()
		if err := one.SetDND(bob, time.Now().Add(2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		for i, s := range []*push.Service{one, two, made()} {
			q := s.QuietCall(bobs(), carol)
			if !q.Hold || q.Reason != "do not disturb until 2000-01-01T14:00:00Z" || len(s.DND()) != 1 {
				t.Errorf("core %d: %+v", i, q)
			}
			if note := s.QuietNote(bobs(), push.Note{Event: push.EventMessage}); note.Hold || !note.Passive {
				t.Errorf("core %d: a note is not treated as bob's rule says: %+v", i, note)
			}
			if s.QuietCall(bobs(), push.Call{FromURI: "sip:ward@hospital.example"}).Hold {
				t.Errorf("core %d: the VIP does not come through", i)
			}
			if s.QuietCall(push.Target{Device: "sip:dave@example.com x"}, carol).Hold {
				t.Errorf("core %d: another is not disturbed either", i)
			}
		}
		time.Sleep(2 * time.Hour)
		if two.QuietCall(bobs(), carol).Hold || len(two.DND()) != 0 {
			t.Error("it does not end")
		}
		if err := two.SetDND("bob@example.com", time.Time{}); err != nil {
			t.Fatal(err)
		}
		if q := one.QuietCall(bobs(), carol); !q.Hold || !q.Until.IsZero() || q.Reason != "do not disturb" {
			t.Errorf("ruling %+v", q)
		}
		if err := one.ClearDND("sip:bob@EXAMPLE.com"); err != nil {
			t.Fatal(err)
		}
		if two.QuietCall(bobs(), carol).Hold {
			t.Error("it is not switched off for the other core")
		}
	})
}

func TestDoNotDisturbThatIsNotSafeIsNoneAndSaysSo(t *testing.T) {
	full := errors.New("disk full")
	s := push.New(push.Config{Enabled: true, DND: &shelf{refuses: full}}, nil, nil, nil)
	if err := s.SetDND(bob, time.Time{}); !errors.Is(err, full) {
		t.Errorf("err %v", err)
	}
	if s.QuietCall(bobs(), carol).Hold {
		t.Error("it holds all the same")
	}
	for _, aor := range []string{"", "*", "@example.com", "sip:", "tel:+1"} {
		if err := s.SetDND(aor, time.Time{}); err == nil {
			t.Errorf("%q is taken for an address", aor)
		}
	}
}
