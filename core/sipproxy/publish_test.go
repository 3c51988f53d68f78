package sipproxy

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/presence"
)

// Presence of who sleeps: B11, T-SM-6, T-SM-7.

const openDoc = `<?xml version="1.0"?>` + "\r\n" +
	`<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:alice@example.com"><tuple id="t"><status><basic>open</basic></status></tuple></presence>`

// awayDoc is openDoc as others see it while the phone sleeps.
var awayDoc = func() string {
	out, err := presence.Away([]byte(openDoc))
	if err != nil {
		panic(err)
	}
	return string(out)
}()

// publish is the phone's PUBLISH; body "" is a refresh, tag "" an initial one.
func (ph *phone) publish(tag, body string, extra ...string) []string {
	lines := ph.asks("PUBLISH", ph.aor(), append([]string{"Event: presence"}, append(extra, withHour(extra)...)...)...)
	if tag != "" {
		lines = append(lines, "SIP-If-Match: "+tag)
	}
	if body != "" {
		lines = append(lines, "Content-Type: application/pidf+xml", "", body)
	}
	return lines
}

func bodyOf(m string) string { _, b, _ := strings.Cut(m, "\r\n\r\n"); return b }

// published takes the next PUBLISH at the PBX, which must be for that tag and
// with that body, and grants it.
func (w *town) published(ifMatch, body, tag string) (req string) {
	w.t.Helper()
	req = w.pbx.hears("PUBLISH sip:alice@example.com SIP/2.0")
	if got := first(req, "SIP-If-Match"); got != ifMatch {
		w.t.Errorf("SIP-If-Match %q, want %q", got, ifMatch)
	}
	if got := bodyOf(req); got != body {
		w.t.Errorf("published\n%s\nwant\n%s", got, body)
	}
	if body != "" && first(req, "Content-Type") != "application/pidf+xml" {
		w.t.Errorf("Content-Type %q", first(req, "Content-Type"))
	}
	w.pbx.say(reply(req, 200, "SIP-ETag: "+tag, "Expires: "+first(req, "Expires"))...)
	return req
}

// shows is a phone that is awake and has published openDoc under the tag "e1".
func (w *town) open(ph *phone) {
	w.t.Helper()
	ph.say(ph.publish("", openDoc)...)
	w.published("", openDoc, "e1")
	if got := first(ph.hears("SIP/2.0 200"), "SIP-ETag"); got != "e1" {
		w.t.Errorf("SIP-ETag %q", got)
	}
}

func TestTSM6_AwayAfterALostFlowAndItsOwnOnReturn(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		ph.sleeps()
		pass(10*time.Second - 1)
		w.pbx.silence()
		pass(1)
		req := w.published("e1", awayDoc, "e2")
		if from := first(req, "From"); !strings.HasPrefix(from, "<sip:alice@example.com>;tag=") || first(req, "To") != "<sip:alice@example.com>" ||
			first(req, "Event") != "presence" || first(req, "Expires") != "3600" || first(req, "Max-Forwards") != "70" {
			t.Errorf("the PBX hears\n%s", req)
		}
		pass(time.Minute)
		w.pbx.silence()
		ph.connects().registers()
		w.published("e2", openDoc, "e3")
		ph.say(ph.publish("e1", "")...) // the tag that it knows
		w.published("e3", "", "e4")
		if got := first(ph.hears("SIP/2.0 200"), "SIP-ETag"); got != "e4" {
			t.Errorf("SIP-ETag %q", got)
		}
		ph.say(ph.publish("e4", "", "Expires: 0")...)
		w.published("e4", "", "e5")
		ph.hears("SIP/2.0 200")
		ph.sleeps()
		pass(time.Hour)
		w.pbx.silence()
	})
}

func TestTSM6_AShortBreakIsSeenByNobody(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		for range 3 {
			ph.sleeps()
			pass(9 * time.Second)
			ph.connects().registers()
			pass(20 * time.Second)
		}
		w.pbx.silence()
	})
}

func TestTSM6_AClientThatSaysSoIsAwayAtOnce(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "wss").awake()
		w.open(ph)
		ph.say(ph.asks("OPTIONS", "sip:example.com", "Client-State: inactive")...)
		ph.hears("SIP/2.0 200")
		w.published("e1", awayDoc, "e2")
		// Its own refresh, meanwhile, is one.
		ph.say(ph.publish("e1", "")...)
		w.published("e2", "", "e3")
		ph.hears("SIP/2.0 200")
		w.pbx.silence()
		// What it publishes meanwhile is changed in turn.
		busy := strings.Replace(openDoc, `"t"`, `"u"`, 1)
		ph.say(ph.publish("e3", busy)...)
		w.published("e3", busy, "e4")
		ph.hears("SIP/2.0 200")
		w.published("e4", strings.Replace(awayDoc, `"t"`, `"u"`, 1), "e5")
		ph.say(ph.asks("OPTIONS", "sip:example.com", "Client-State: active")...)
		ph.hears("SIP/2.0 200")
		w.published("e5", busy, "e6")
	})
}

func TestTSM6_ASilentFlowIsAwayAndHeardAgain(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "wss").awake()
		w.open(ph)
		ph.fallsSilent()
		pass(10 * time.Second)
		w.published("e1", awayDoc, "e2")
		ph.hearsAgain()
		w.published("e2", openDoc, "e3")
	})
}

func TestTSM6_AClientThatAnswersNothingIsAway(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		w.pbx.say(w.asks("INFO", "sip:alice@example.com", "i")...)
		ph.hears("INFO")
		pass(2*time.Second + 10*time.Second)
		w.pbx.hears("SIP/2.0 100")
		w.published("e1", awayDoc, "e2")
		ph.registersHereAfter(t)
		w.published("e2", openDoc, "e3")
	})
}

// registersHereAfter is a refresh, of which the PBX hears nothing.
func (ph *phone) registersHereAfter(t *testing.T) {
	t.Helper()
	ph.say(ph.register()...)
	ph.hears("SIP/2.0 200")
}

func TestTSM6_TheRefreshAndOursGoOneAfterTheOther(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		ph.say(ph.asks("OPTIONS", "sip:example.com", "Client-State: inactive")...)
		ph.hears("SIP/2.0 200")
		ours := w.pbx.hears("PUBLISH")
		ph.say(ph.publish("e1", "")...) // while ours is under way
		w.pbx.silence()
		w.pbx.say(reply(ours, 200, "SIP-ETag: e2", "Expires: 3600")...)
		w.published("e2", "", "e3")
		if got := first(ph.hears("SIP/2.0 200"), "SIP-ETag"); got != "e3" {
			t.Errorf("SIP-ETag %q", got)
		}
	})
}

// The server was restarted, or what it answered was lost: neither is the
// client's doing.
func TestTSM6_A412IsNotTheClients(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		ph.say(ph.publish("e1", "", "Authorization: Digest x")...)
		w.pbx.say(reply(w.pbx.hears("PUBLISH"), 412)...)
		w.published("", openDoc, "n1")
		if got := first(ph.hears("SIP/2.0 200"), "SIP-ETag"); got != "n1" {
			t.Errorf("SIP-ETag %q", got)
		}
		ph.sleeps()
		pass(10 * time.Second)
		w.pbx.say(reply(w.pbx.hears("PUBLISH"), 412)...)
		w.published("", awayDoc, "n2")
		ph.connects().registers()
		w.pbx.say(reply(w.pbx.hears("PUBLISH"), 412)...)
		w.published("", openDoc, "n3")
		ph.say(ph.publish("n1", openDoc)...)
		w.published("n3", openDoc, "n4")
		ph.hears("SIP/2.0 200")
		// What ends anyway need not be published before.
		ph.say(ph.publish("n4", "", "Expires: 0")...)
		w.pbx.say(reply(w.pbx.hears("PUBLISH"), 412)...)
		ph.hears("SIP/2.0 412")
		w.pbx.silence()
	})
}

func TestTSM6_AnAnswerThatGotLostLeavesTheOlderTag(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		ph.say(ph.publish("e1", "")...)
		req := w.pbx.hears("PUBLISH")
		ph.sleeps()
		w.pbx.say(reply(req, 200, "SIP-ETag: e2", "Expires: 3600")...)
		ph.connects().registers()
		ph.say(ph.publish("e1", "")...)
		w.published("e2", "", "e3")
		ph.hears("SIP/2.0 200")
	})
}

// An app that the system ended knows no tag any more; its old document would
// stay beside the new one for as long as it is kept alive.
func TestTSM6_ANewDocumentTakesThePlaceOfTheOld(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		ph.sleeps()
		pass(10 * time.Second)
		w.published("e1", awayDoc, "e2")
		ph.connects().registers()
		w.published("e2", openDoc, "e3")
		other := strings.Replace(openDoc, "open", "closed", 1)
		ph.say(ph.publish("", other)...)
		w.published("e3", other, "e4")
		ph.hears("SIP/2.0 200")
	})
}

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
		ph.say(ph.asks("OPTIONS", "sip:example.com", "Client-State: inactive")...)
		ph.hears("SIP/2.0 200")
		w.published("e1", awayDoc, "e2")
		ph.say(partial("e1")...)
		ph.hears("SIP/2.0 412")
		ph.say(ph.asks("OPTIONS", "sip:example.com", "Client-State: active")...)
		ph.hears("SIP/2.0 200")
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
		synctest.Wait()
		if all, _ := w.book.Len(); all != 0 {
			t.Errorf("%d publications are held", all)
		}
	})
}

// withHour is the lifetime of a publication, unless one is told.
func withHour(extra []string) []string {
	if withExpires(extra) == nil {
		return nil
	}
	return []string{"Expires: 3600"}
}
