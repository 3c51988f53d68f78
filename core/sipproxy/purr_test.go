package sipproxy

import (
	"strings"
	"testing"
	"time"

	"sallyport/core/wake"
)

// R14 and PN-17: requests inside a dialog for a phone that sleeps, in which it
// asked to be woken, and in which it did not.

// purrIn is the PURR that a 2xx to REGISTER brings.
func purrIn(t *testing.T, ok string) string {
	t.Helper()
	_, after, _ := strings.Cut(strings.Join(header(ok, "Feature-Caps"), "\n"), `+sip.pnspurr="`)
	purr, _, found := strings.Cut(after, `"`)
	if !found || len(purr) != purrLen {
		t.Fatalf("Feature-Caps %q", header(ok, "Feature-Caps"))
	}
	return purr
}

// purring is a phone that registers and asks, in its dialogs, to be woken.
func (ph *phone) purring(t *testing.T) *phone {
	t.Helper()
	ph.connects()
	purr := purrIn(t, ph.registers())
	ph.dialogPush = ";pn-purr=" + purr
	return ph
}

// wokenInDialog checks that nothing was pushed but so many wishes to register.
func (w *town) wokenInDialog(n int) {
	w.t.Helper()
	notes := make([]string, n)
	for i := range notes {
		notes[i] = wake.EventRegister
	}
	w.pushed(0, notes...)
}

func notInForeground(c *Config) { c.PushInForeground = false }

func TestPN17_R14_ARequestInADialogWakesWhoAskedForIt(t *testing.T) {
	for _, provider := range []string{"apns", "fcm", "webpush"} {
		for _, transport := range []string{"tls", "wss"} {
			inTown(t, func(t *testing.T, w *town) {
				ph := w.phone("alice", transport).of(provider).purring(t)
				ok := w.dialog(ph)
				if !strings.Contains(first(ok, "Contact"), ph.dialogPush) {
					t.Fatalf("the far end has no PURR to send back: Contact %q", first(ok, "Contact"))
				}
				if strings.Contains(first(ok, "Contact"), "pn-prid") {
					t.Errorf("PN-16: Contact %q", first(ok, "Contact"))
				}
				ph.sleeps()
				pass(10 * time.Second)
				w.pbx.say(dialogRequest("UPDATE", ok)...)
				w.wokenInDialog(1)
				if n := w.pushes.notes[0]; n.To != "sip:alice@example.com" || n.Expires.Sub(n.Sent) != 13*time.Second || !n.Urgent {
					t.Errorf("the push says %+v", n)
				}
				pass(2 * time.Second)
				w.pbx.say(dialogRequest("INFO", ok)...) // joins
				w.pbx.silence()
				ph.awake()
				for _, m := range []string{"UPDATE", "INFO"} {
					req := ph.hears(m + " " + ph.uri() + " ")
					ph.say(reply(req, 200)...)
					w.pbx.hears("SIP/2.0 200")
				}
				ph.sleeps()
				pass(10 * time.Second)
				w.pbx.say(dialogRequest("INVITE", ok)...)
				w.pbx.hears("SIP/2.0 100")
				w.wokenInDialog(2)
				ph.awake()
				ph.say(reply(ph.hears("INVITE"), 200)...)
				w.pbx.hears("SIP/2.0 200")
				w.pbx.say(dialogRequest("BYE", ok)...) // awake: no push
				ph.say(reply(ph.hears("BYE"), 200)...)
				w.pbx.hears("SIP/2.0 200")
				w.wokenInDialog(2)
			}, notInForeground)
		}
	}
}

func TestPN18_WhoDoesNotComeEndsTheTransactionAndNotTheDialog(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").purring(t)
		ok := w.dialog(ph)
		ph.sleeps()
		for method, wait := range map[string]time.Duration{"INFO": 13 * time.Second, "INVITE": 13 * time.Second, "BYE": 30 * time.Second} {
			req := dialogRequest(method, ok)
			w.pbx.say(req...)
			pass(wait)
			w.pbx.hears("SIP/2.0 100")
			w.pbx.hears("SIP/2.0 480")
			if method == "INVITE" {
				w.pbx.say(inviteOf(req, "ACK")...)
			}
		}
		w.wokenInDialog(3) // and no missed call
	}, notInForeground)
}

func TestR14_WithoutAPURRNothingIsPushed(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		other := w.phone("alice2", "wss").purring(t)
		ph := w.phone("alice", "tls").awake()
		ph.dialogPush = other.dialogPush // somebody else's
		other.sleeps()
		c := w.callsAt("sip:"+w.token(ph)+"@"+advertise, "dlg")
		inv := ph.rings("dlg")
		c.hears("SIP/2.0 180")
		ph.answers(inv)
		ok := c.answered(ph)
		ph.sleeps()
		pass(10 * time.Second)
		forged := []string{"", ph.dialogPush, ";pn-purr=" + strings.Repeat("a", purrLen), ";pn-purr=x", ph.dialogPush[:len(ph.dialogPush)-1] + "a"}
		uri := strings.Replace(strings.Trim(first(ok, "Contact"), "<>"), ph.dialogPush, "", 1)
		for _, purr := range forged {
			req := dialogRequest("INFO", ok)
			req[0] = "INFO " + uri + purr + " SIP/2.0"
			w.pbx.say(req...)
			pass(13 * time.Second)
			w.pbx.hears("SIP/2.0 100")
			w.pbx.hears("SIP/2.0 480")
		}
		w.wokenInDialog(0)
	}, notInForeground)
}

// A client behind the core opens the dialog; the PURR comes back in a Route,
// as from a strict router, or with no Route at all.
func TestPN17_ThePURRCountsInARouteAndWithoutOne(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").purring(t)
		out := ph.dials("sip:carol@example.com", "out")
		ph.say(out...)
		ph.hears("SIP/2.0 100")
		inv := w.pbx.hears("INVITE")
		if !strings.Contains(first(inv, "Contact"), ph.dialogPush) || len(header(inv, "Record-Route")) != 2 {
			t.Fatalf("Contact %q, Record-Route %q", first(inv, "Contact"), header(inv, "Record-Route"))
		}
		w.pbx.say(reply(inv, 200, "Contact: <sip:carol@10.0.0.33>")...)
		ok := ph.hears("SIP/2.0 200")
		ph.say(dialogRequestOf(ph, "ACK", ok)...)
		w.pbx.hears("ACK")
		ph.sleeps()
		pass(10 * time.Second)
		contact := strings.Trim(first(inv, "Contact"), "<>")
		from := []string{"From: " + first(inv, "To") + ";tag=callee", "To: " + first(inv, "From"), "Call-ID: out"}
		for i, way := range [][]string{
			{"INFO sip:alice@192.0.2.7:50000 SIP/2.0", "Route: " + header(inv, "Record-Route")[0], "Route: <" + contact + ">"},
			{"INFO " + contact + " SIP/2.0"},
		} {
			seq++
			req := append([]string{way[0], "Via: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKway" + string(rune('a'+i)), "Max-Forwards: 70", "CSeq: 7 INFO"}, from...)
			w.pbx.say(append(req, way[1:]...)...)
			w.wokenInDialog(i + 1)
			ph.awake()
			ph.say(reply(ph.hears("INFO"), 200)...)
			w.pbx.hears("SIP/2.0 200")
			ph.sleeps()
			pass(20 * time.Second)
		}
	}, notInForeground)
}

// RFC 8599 §7: a call that replaces one of these dialogs wakes its phone too,
// without a ring (R13).
func TestPN17_AnInviteThatReplacesTheDialogWakesInTheBackground(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").purring(t)
		contact := strings.Trim(first(w.dialog(ph), "Contact"), "<>")
		ph.sleeps()
		pass(10 * time.Second)
		c := w.callsAt(contact, "new", "Replaces: dlg;to-tag=callee;from-tag=carol")
		w.wokenInDialog(1)
		ph.awake()
		inv := ph.rings("new")
		c.hears("SIP/2.0 180")
		ph.answers(inv)
		c.answered(ph)
		w.wokenInDialog(1)
	}, notInForeground)
}

func TestPN17_APURRTellsNobodyWhoseItIsAndChangesEachDay(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		now := time.Now()
		ph := w.phone("alice", "tls")
		seen := map[string]bool{}
		for range 3 {
			ph.connects()
			one := purrIn(t, ph.registers())
			if seen[one] {
				t.Error("yesterday's PURR is given again")
			}
			seen[one] = true
			if again := purrIn(t, ph.registersHere(t)); again != one {
				t.Error("the PURR changes within the day")
			}
			ph.sleeps()
			pass(24 * time.Hour)
		}
		a, b := w.proxy.purr(w.token(ph), now), w.proxy.purr(w.token(ph), now.Add(purrDay))
		same := 0
		for i := range a {
			if a[i] == b[i] {
				same++
			}
		}
		if same > purrLen/3 || strings.Contains(a, w.token(ph)) {
			t.Errorf("%s and %s look alike", a, b)
		}
		w.restart(func(c *Config) { c.TokenKeys = [][]byte{[]byte("a new key"), []byte("an old key")} })
		for one := range seen { // those of dialogs that began days ago
			if id, ok := w.proxy.ofPurr(one); !ok || id != ph.id() {
				t.Errorf("a PURR of the key before names %v, %v", id, ok)
			}
		}
		w.restart(func(c *Config) { c.TokenKeys = [][]byte{[]byte("another key")} })
		for one := range seen {
			if _, ok := w.proxy.ofPurr(one); ok {
				t.Error("a PURR outlives its key")
			}
		}
	}, notInForeground)
}

func FuzzPURR(f *testing.F) {
	p := New(Config{TokenKeys: [][]byte{[]byte("a key")}}, Deps{})
	good := p.purr(strings.Repeat("abcdef2345", 3)[:tokenLen], time.Unix(1e9, 0))
	f.Add(good)
	f.Add(strings.ToUpper(good))
	f.Add(good[:50] + "\r\n" + good[52:])
	f.Fuzz(func(t *testing.T, s string) {
		raw, err := tokenText.DecodeString(s)
		if _, ok := p.unpurr(s); ok && (err != nil || tokenText.EncodeToString(raw) != good) {
			t.Errorf("%q is taken for one of ours", s)
		}
	})
}

// A flow that is there, with nobody at its end, is no reason not to wake.
func TestPN17_APhoneThatDoesNotAnswerInADialogIsWokenToo(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		stale := w.phone("alice", "tls").purring(t)
		ok := w.dialog(stale)
		w.pbx.say(dialogRequest("INVITE", ok)...)
		w.pbx.hears("SIP/2.0 100")
		stale.hears("INVITE")
		w.wokenInDialog(0)
		pass(unansweredAfter)
		w.wokenInDialog(1)
		ph := *stale
		ph.awake()
		ph.say(reply(ph.hears("INVITE"), 200)...)
		w.pbx.hears("SIP/2.0 200")
	}, notInForeground)
}
