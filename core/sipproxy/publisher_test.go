package sipproxy

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/core/presence"
)

// How long we publish for who sleeps, and when not (T-SM-7).

func TestTSM7_ADeviceThatCanBeWokenIsKeptAlive(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		ph.sleeps()
		pass(10 * time.Second)
		w.published("e1", awayDoc, "e2")
		for i := range 24 {
			pass(3600*time.Second - lead)
			req := w.published(fmt.Sprint("e", i+2), "", fmt.Sprint("e", i+3))
			if first(req, "Expires") != "3600" || first(req, "Content-Type") != "" {
				t.Errorf("a refresh is\n%s", req)
			}
		}
		ph.connects().registers()
		w.published("e26", openDoc, "e27")
	})
}

// lead is how long before its end a publication of an hour is refreshed.
const lead = time.Minute

func TestTSM7_OneThatCannotBeWokenLapses(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls")
		ph.push = ""
		ph.awake()
		w.open(ph)
		ph.sleeps()
		pass(10 * time.Second)
		req := w.published("e1", awayDoc, "e2")
		if got, _ := strconv.Atoi(first(req, "Expires")); got < 3589 || got > 3590 {
			t.Errorf("published for %d s, want what is left", got)
		}
		pass(2 * time.Hour)
		w.pbx.silence()
		if all, _ := w.book.Len(); all != 0 {
			t.Errorf("%d publications are held", all)
		}
	})
}

func TestTSM7_ARestartGoesOn(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		ph.sleeps()
		pass(10 * time.Second)
		w.published("e1", awayDoc, "e2")
		at := time.Now()
		w.restart()
		pass(time.Minute)
		w.pbx.silence()
		pass(time.Hour - lead - time.Since(at))
		w.published("e2", "", "e3")
		ph.connects().registers()
		w.published("e3", openDoc, "e4")
		ph.say(ph.publish("e1", "")...)
		w.published("e4", "", "e5")
		ph.hears("SIP/2.0 200")
		// One that falls asleep while no core is there.
		w.stopCore()
		ph.sleeps()
		w.startCore()
		w.tunnelUp()
		pass(time.Minute)
		w.published("e5", awayDoc, "e6")
	})
}

func TestTSM7_APhoneThatFlapsMakesNoStorm(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "wss").awake()
		w.open(ph)
		count := 0
		w.pbx.answer = func(m string) {
			if strings.HasPrefix(m, "PUBLISH") {
				count++
				go w.pbx.send(message(reply(m, 200, "SIP-ETag: f"+strconv.Itoa(count), "Expires: 3600")...))
			}
		}
		for i := range 200 { // 100 s
			ph.say(ph.asks("OPTIONS", "sip:example.com", "Client-State: "+[]string{"inactive", "active"}[i%2])...)
			pass(500 * time.Millisecond)
		}
		if count > 4+100/5 {
			t.Errorf("%d PUBLISHes in 100 s", count)
		}
		pass(10 * time.Second)
		if _, changed := w.book.Len(); changed != 0 {
			t.Error("it looks, and is shown as away")
		}
		w.pbx.answer = nil
	})
}

func TestAPBXThatAsksForCredentialsIsLeftAlone(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		ph.sleeps()
		pass(10 * time.Second)
		w.pbx.say(reply(w.pbx.hears("PUBLISH"), 407, `Proxy-Authenticate: Digest realm="x", nonce="y"`)...)
		pass(30 * time.Minute)
		w.pbx.silence()
		if got := w.proxy.Unpublished()["example.com"]; got != 407 {
			t.Errorf("the status says %d", got)
		}
		// All else is as the client and the PBX have it.
		ph.connects().registers()
		ph.say(ph.publish("e1", "")...)
		w.published("e1", "", "e2")
		ph.hears("SIP/2.0 200")
		ph.sleeps()
		pass(20 * time.Minute)
		w.pbx.silence()
	})
}

func TestAPBXInTroubleIsTriedAgainLater(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		ph.sleeps()
		pass(10 * time.Second)
		w.pbx.say(reply(w.pbx.hears("PUBLISH"), 500)...)
		pass(30*time.Second - 1)
		w.pbx.silence()
		pass(1)
		w.pbx.say(reply(w.pbx.hears("PUBLISH"), 423, "Min-Expires: 7200")...)
		req := w.published("e1", awayDoc, "e2")
		if first(req, "Expires") != "7200" {
			t.Errorf("Expires %s", first(req, "Expires"))
		}
	})
}

func TestWhatIsNotTheClientsOwnPresenceIsNotTouched(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		for _, req := range [][]string{
			with(ph.publish("", openDoc), "Event", "dialog"),
			append([]string{"PUBLISH sip:carol@example.com SIP/2.0"}, ph.publish("", openDoc)[1:]...),
			ph.publish("", "", "Expires: 3600"),
		} {
			ph.say(req...)
			w.pbx.say(reply(w.pbx.hears("PUBLISH"), 200, "SIP-ETag: x", "Expires: 3600")...)
			ph.hears("SIP/2.0 200")
		}
		ph.sleeps()
		pass(time.Minute)
		w.pbx.silence()
	})
}

// RFC 5264: what changes a part of a document needs that document.
func TestAPartialPublicationIsLeftToTheClient(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		diff := `<p:pidf-diff xmlns:p="urn:ietf:params:xml:ns:pidf-diff"/>`
		partial := func(tag string) []string {
			lines := ph.publish(tag, diff)
			return with(lines, "Content-Type", "application/pidf-diff+xml")
		}
		ph.inactive(true)
		w.published("e1", awayDoc, "e2")
		ph.say(partial("e1")...)
		ph.hears("SIP/2.0 412")
		ph.inactive(false)
		w.published("e2", openDoc, "e3")
		ph.say(partial("e1")...)
		req := w.pbx.hears("PUBLISH")
		if first(req, "SIP-If-Match") != "e3" || bodyOf(req) != diff {
			t.Errorf("the PBX hears\n%s", req)
		}
		w.pbx.say(reply(req, 200, "SIP-ETag: e4", "Expires: 3600")...)
		ph.hears("SIP/2.0 200")
		// Nobody knows the document now: it is refreshed, and not changed.
		ph.sleeps()
		pass(time.Hour - lead - time.Second)
		w.pbx.silence()
		pass(time.Second)
		w.published("e4", "", "e5")
	})
}

func TestPresenceIsKeptOrClosedAsConfigured(t *testing.T) {
	closed := strings.Replace(openDoc, ">open<", ">closed<", 1)
	for mode, want := range map[presence.Mode]string{presence.ModeKeep: "", presence.ModeUnavailable: closed} {
		inTown(t, func(t *testing.T, w *town) {
			w.shows.Mode = mode
			w.restart()
			ph := w.phone("alice", "tls").awake()
			w.open(ph)
			ph.sleeps()
			tag, at := "e1", 10*time.Second
			pass(at)
			if want != "" {
				w.published("e1", want, "e2")
				tag, at = "e2", 0
			}
			w.pbx.silence()
			pass(time.Hour - lead - at)
			w.published(tag, "", "e3")
			ph.connects().registers()
			if want != "" {
				w.published("e3", openDoc, "e4")
			}
			w.pbx.silence()
		})
	}
}

func TestAClientThatSaysGoodbyeIsForgotten(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		ph.registers("Expires: 0")
		ph.sleeps()
		pass(10 * time.Second)
		w.pbx.silence()
		if all, _ := w.book.Len(); all != 0 {
			t.Errorf("%d publications are held", all)
		}
	})
}

// A PBX that does not answer one phone's PUBLISH, and a phone that says often that
// nobody looks, hold up nobody else.
func TestTSM7_APhoneWhosePublishHangsHoldsUpNobody(t *testing.T) {
	two(t, func(t *testing.T, w *town, a, b *phone) {
		a.awake()
		b.awake()
		w.open(b)
		w.open(a)
		a.say(a.publish("e1", openDoc)...)
		w.pbx.hears("PUBLISH") // and says nothing
		for range maxPublishing + 1 {
			a.inactive(true)
			a.inactive(false)
		}
		b.inactive(true)
		w.published("e1", awayDoc, "e2")
	})
}
