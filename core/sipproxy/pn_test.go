package sipproxy

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// RFC 8599 where a client registers: PN-1 to PN-8, PN-14 and PN-16.

// caps are the Feature-Caps of a message without their PURRs, which are random
// to whoever sees them.
func caps(m string) (all []string) {
	for _, v := range header(m, "Feature-Caps") {
		params := strings.Split(v, ";")
		params = slices.DeleteFunc(params, func(p string) bool { return strings.HasPrefix(p, "+sip.pnspurr=") })
		all = append(all, strings.Join(params, ";"))
	}
	return all
}

// asked has a phone with these push parameters register, and returns what the
// PBX and the phone hear.
func (w *town) asked(push, contact string, grant string, extra ...string) (up, down string) {
	w.t.Helper()
	ph := w.phone("alice", "tls").connects()
	if ph.push = push; contact != "" {
		ph.contact = "<" + ph.uri() + push + `>;+sip.instance="<` + ph.urn + `>";reg-id=1` + contact
	}
	ph.say(ph.register(extra...)...)
	up = w.pbx.hears("REGISTER")
	c := first(up, "Contact")
	if grant != "" {
		c, _, _ = strings.Cut(c, ";expires=")
		c += ";expires=" + grant
	}
	w.pbx.say(reply(up, 200, "Contact: "+c)...)
	down = ph.hears("SIP/2.0 200")
	ph.sleeps()
	pass(10 * time.Second)
	return up, down
}

func TestPN1_PN2_EachProviderIsToldOfUpstreamAndDown(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		for provider, push := range tokensOf {
			up, down := w.asked(push, "", "")
			want := `*;+sip.pns="` + provider + `"`
			if got := header(up, "Feature-Caps"); !slices.Equal(got, []string{want}) {
				t.Errorf("%s, to the PBX: %q", provider, got)
			}
			if up, _, _ := strings.Cut(up, "\r\nFrom:"); !strings.Contains(up, "Feature-Caps") {
				t.Errorf("%s: Feature-Caps is not before what the client sent", provider)
			}
			if provider == "webpush" {
				want += `;+sip.vapid="` + vapid + `"`
			}
			if got := caps(down); !slices.Equal(got, []string{want}) {
				t.Errorf("%s, to the client: %q", provider, got)
			}
		}
	})
}

func TestPN2_AClientThatWakesByItselfIsToldWhen(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		for expires, want := range map[string]string{"3600": `*;+sip.pns="apns";+sip.pnsreg="130"`, "200": `*;+sip.pns="apns"`} {
			_, down := w.asked(apns, ";+sip.pnsreg", "", "Expires: "+expires)
			if got := caps(down); !slices.Equal(got, []string{want}) {
				t.Errorf("Expires %s: %q, want %q", expires, got, want)
			}
		}
		_, down := w.asked(";pn-provider=apns", ";+sip.pnsreg", "", "Expires: 3600") // a query is no binding to keep
		if got := caps(down); !slices.Equal(got, []string{`*;+sip.pns="apns"`}) {
			t.Errorf("a query: %q", got)
		}
	})
}

func TestPN3_AGrantTooShortToPushInTimePromisesNothing(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		for grant, want := range map[string]int{"60": 0, "120": 0, "121": 1, "": 1} {
			_, down := w.asked(apns, "", grant)
			if got := caps(down); len(got) != want {
				t.Errorf("granted %q: Feature-Caps %q", grant, got)
			}
		}
	})
}

// What the client asks does not bind: the PBX is asked for upstream_expires.
func TestPN4_AShortRequestIsForwardedWithALongExpiry(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		up, down := w.asked(apns, "", "", "Expires: 60")
		if first(up, "Expires") != "86400" || len(caps(up)) != 1 || len(caps(down)) != 1 {
			t.Errorf("to the PBX Expires %q, Feature-Caps %q; to the client %q", first(up, "Expires"), caps(up), caps(down))
		}
	})
	inTown(t, func(t *testing.T, w *town) {
		up, down := w.asked(apns, "", "")
		if len(caps(up))+len(caps(down)) != 0 {
			t.Errorf("upstream_expires of a minute: Feature-Caps %q, %q", caps(up), caps(down))
		}
	}, func(c *Config) { c.Domains[0].UpstreamExpires = time.Minute })
}

func TestPN5_WhereANearerProxyPushesWeDoNot(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].connects()
		const nearer = `Feature-Caps: *;+sip.pns="apns"`
		ph.registers(nearer)
		up := ph.register(nearer)
		ph.say(up...)
		ok := ph.hears("SIP/2.0 200")
		if len(caps(ok)) != 0 {
			t.Errorf("Feature-Caps %q", caps(ok))
		}
		c := w.calls("call-1")
		inv := ph.hears("INVITE " + ph.uri() + ph.push) // by which the nearer proxy pushes
		ph.refuses(inv, 486)
		c.ends(486)
		ph.sleeps()
		pass(10 * time.Second)
		w.calls("call-2").ends(480)
		w.pushed(0)
		if _, down := w.asked(apns, "", "", `Feature-Caps: *;+sip.pns="fcm"`); len(caps(down)) != 1 {
			t.Errorf("a nearer proxy pushes by another provider; Feature-Caps %q", caps(down))
		}
	})
}

func TestPN6_WhatNobodyHereServesIsForwardedAndRefusedOnlyIfConfigured(t *testing.T) {
	strangers := map[string]string{
		"another provider": ";pn-provider=acme;pn-param=x;pn-prid=y",
		"another app":      ";pn-provider=apns;pn-param=TEAM.org.example.other;pn-prid=aa11",
		"no pn-param":      ";pn-provider=fcm;pn-prid=y",
		"a query for acme": ";pn-provider=acme",
	}
	inTown(t, func(t *testing.T, w *town) {
		for name, push := range strangers {
			if up, down := w.asked(push, "", ""); len(caps(up))+len(caps(down)) != 0 {
				t.Errorf("%s: Feature-Caps %q, %q", name, caps(up), caps(down))
			}
		}
		w.calls("call-1").ends(480)
		w.pushed(0)
	})
	inTown(t, func(t *testing.T, w *town) {
		for name, push := range strangers {
			ph := w.phone("alice", "tls").connects()
			ph.push = push
			ph.say(ph.register()...)
			if got := ph.hears("SIP/2.0 555"); firstLine(got) != "SIP/2.0 555 Push Notification Service Not Supported" {
				t.Errorf("%s: %s", name, firstLine(got))
			}
			ph.say(ph.register("Expires: 0")...) // who leaves asks for nothing
			w.accepts()
			ph.hears("SIP/2.0 200")
			ph.say(ph.register(`Feature-Caps: *;+sip.pns="acme"`)...) // somebody else may
			w.accepts()
			ph.hears("SIP/2.0 200")
			ph.say(ph.asks("OPTIONS", "sip:example.com")...) // and never to anything but REGISTER
			ph.hears("SIP/2.0 200")
		}
		w.phone("alice", "wss").awake()
		plain := w.phone("alice2", "wss")
		plain.push = ""
		plain.awake()
		query := w.phone("alice3", "wss")
		query.push = ";pn-provider"
		query.awake()
	}, func(c *Config) { c.RefuseUnknown = true })
}

func TestPN7_AQueryIsAnsweredAndNeverPushed(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		const a, f, v = `*;+sip.pns="apns"`, `*;+sip.pns="fcm"`, `*;+sip.pns="webpush"`
		for query, want := range map[string][]string{
			";pn-provider": {a, f, v}, ";pn-provider=apns": {a}, ";pn-provider=fcm": {f}, ";pn-provider=acme": nil,
			";pn-provider=apns;pn-prid=": {a},
		} {
			up, down := w.asked(query, "", "")
			if got := header(up, "Feature-Caps"); !slices.Equal(got, want) {
				t.Errorf("%s, to the PBX: %q", query, got)
			}
			want = slices.Clone(want)
			if n := len(want); n > 0 && want[n-1] == v {
				want[n-1] += `;+sip.vapid="` + vapid + `"`
			}
			if got := header(down, "Feature-Caps"); !slices.Equal(got, want) { // no binding, no PURR
				t.Errorf("%s, to the client: %q", query, got)
			}
			w.calls("call" + query).ends(480) // PN-8: no pn-prid, no push
		}
		w.pushed(0)
	})
}

func TestPN8_NothingIsPushedForABindingThatWasRemoved(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		for _, provider := range []string{"apns", "fcm", "webpush"} {
			ph := w.phone("alice", "tls").of(provider).awake()
			ph.push = "" // RFC 8599 §4.1.2: who leaves names no pn-prid
			ph.say(ph.register("Expires: 0")...)
			w.accepts()
			ph.hears("SIP/2.0 200")
			ph.sleeps()
			w.atOnce("call-" + provider)
		}
		w.pushed(0)
	}, func(c *Config) { c.RefreshMargin = 10 * time.Minute })
}

// Who sends a request other than INVITE gives up after 32 s (Timer F).
func TestPN14_NoRequestWaitsLongerThanItsSender(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		ok := w.dialog(ph)
		ph.sleeps()
		for method, wait := range map[string]time.Duration{"UPDATE": 30 * time.Second, "BYE": 30 * time.Second, "INVITE": time.Minute} {
			req := dialogRequest(method, ok)
			w.pbx.say(req...)
			pass(wait - time.Millisecond)
			w.pbx.hears("SIP/2.0 100")
			w.pbx.silence()
			pass(time.Millisecond)
			w.pbx.hears("SIP/2.0 480")
			if method == "INVITE" {
				w.pbx.say(inviteOf(req, "ACK")...)
			}
		}
	}, func(c *Config) { c.Window = time.Minute })
}

// pn-key, pn-auth and pn-class are ours, and stay here like the others.
func TestPN16_OurOwnParametersStayHereToo(t *testing.T) {
	const own = ";pn-class=single;pn-key=BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4;pn-auth=BTBZMqHH6r4Tts7J_aSIgg"
	for _, path := range []bool{false, true} {
		inTown(t, func(t *testing.T, w *town) {
			ph := w.phone("alice", "tls").connects()
			ph.push += own
			ph.say(ph.register()...)
			up := w.pbx.hears("REGISTER")
			w.pbx.say(reply(up, 200, "Contact: "+first(up, "Contact"), "Path: "+first(up, "Path"))...)
			ph.hears("SIP/2.0 200")
			dev, _ := w.loc.Device(ph.id())
			if dev.Class != "single" || dev.Tokens[0].Key == "" || dev.Tokens[1].Auth != "BTBZMqHH6r4Tts7J_aSIgg" {
				t.Errorf("class %q, tokens %v", dev.Class, dev.Tokens)
			}
			other := w.phone("alice2", "tls").connects()
			heard := []string{up, other.registers()}
			c := w.calls("call-1")
			for _, x := range []*phone{ph, other} {
				x.refuses(x.rings("call-1"), 486)
				c.hears("SIP/2.0 180")
			}
			c.ends(486)
			ph.say(ph.dials("sip:carol@example.com", "out")...)
			inv := w.pbx.hears("INVITE")
			w.pbx.say(reply(inv, 486)...)
			w.pbx.hears("ACK")
			heard = append(heard, inv)
			for _, m := range heard {
				if strings.Contains(m, "pn-class") || strings.Contains(m, "pn-key") || strings.Contains(m, "pn-auth") || strings.Contains(m, "aaalice:") {
					t.Errorf("heard\n%s", m)
				}
			}
			synctest.Wait()
		}, func(c *Config) { c.Domains[0].Path = path })
	}
}

// RFC 8599 §5.3: the pn-* of the REGISTER are those by which was pushed, or it
// frees nobody.
func TestPN11_ARegisterWithOtherTokensFreesNobody(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		c := w.calls("call-1")
		w.pushed(1)
		other := w.phone("alice2", ph.transport).awake() // of the same user, with tokens of its own
		other.silence()
		plain := w.phone("alice3", ph.transport)
		plain.push = ""
		plain.awake()
		plain.silence()
		w.pbx.silence()
		ph.wakes()
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
		w.pushed(1)
	})
}
