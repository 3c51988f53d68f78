package sipproxy

import (
	"strings"
	"testing"
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

// open is a phone that is awake and has published openDoc under the tag "e1".
func (w *town) open(ph *phone) {
	w.t.Helper()
	ph.say(ph.publish("", openDoc)...)
	w.published("", openDoc, "e1")
	if got := first(ph.hears("SIP/2.0 200"), "SIP-ETag"); got != "e1" {
		w.t.Errorf("SIP-ETag %q", got)
	}
}

// inactive says whether the phone's user looks.
func (ph *phone) inactive(is bool) {
	ph.w.t.Helper()
	ph.say(ph.asks("OPTIONS", "sip:example.com", "Client-State: "+map[bool]string{true: "inactive", false: "active"}[is])...)
	ph.hears("SIP/2.0 200")
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
		ph.inactive(true)
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
		ph.inactive(false)
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
		ph.say(ph.register()...) // a refresh, of which the PBX hears nothing
		ph.hears("SIP/2.0 200")
		w.published("e2", openDoc, "e3")
	})
}

func TestTSM6_TheRefreshAndOursGoOneAfterTheOther(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.open(ph)
		ph.inactive(true)
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

// withHour is the lifetime of a publication, unless one is told.
func withHour(extra []string) []string {
	if withExpires(extra) == nil {
		return nil
	}
	return []string{"Expires: 3600"}
}
