package sipproxy

import (
	"encoding/xml"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/sipmsg"
)

// Receipts of ours (RFC 5438).

// cpim is a message whose sender wants to know what becomes of it.
func cpim(from, asked string) string {
	return "From: Carol <" + from + ">\r\nTo: <sip:alice@example.com>\r\nDateTime: 2000-01-01T00:00:00Z\r\n" +
		"NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: a<b&1\r\nimdn.Disposition-Notification: " + asked +
		"\r\n\r\nContent-Type: text/plain\r\n\r\nhello"
}

// imdn is what a receipt says.
type imdn struct {
	XMLName   xml.Name `xml:"urn:ietf:params:xml:ns:imdn imdn"`
	MessageID string   `xml:"message-id"`
	Sent      string   `xml:"datetime"`
	Recipient string   `xml:"recipient-uri"`
	Stored    *string  `xml:"processing-notification>status>stored"`
	Failed    *string  `xml:"delivery-notification>status>failed"`
}

// receipt takes a receipt of ours to carol, at the PBX.
func (w *town) receipt() (r imdn) {
	w.t.Helper()
	m := w.pbx.hears("MESSAGE sip:carol@example.com SIP/2.0")
	w.pbx.say(reply(m, 200)...)
	_, body, _ := strings.Cut(m, "\r\n\r\n")
	head, rest, _ := strings.Cut(body, "\r\n\r\n")
	kind, doc, _ := strings.Cut(rest, "\r\n\r\n")
	if !strings.HasPrefix(first(m, "From"), "<sip:alice@example.com>;tag=") || first(m, "Content-Type") != "message/cpim" ||
		!strings.Contains(head, "To: \"Carol\" <sip:carol@example.com>\r\n") || !strings.Contains(head, "\r\nimdn.Message-ID: ") ||
		!strings.Contains(kind, "Content-Type: message/imdn+xml") || !strings.Contains(kind, "Content-Disposition: notification") {
		w.t.Errorf("the receipt is\n%s", m)
	}
	if err := xml.Unmarshal([]byte(doc), &r); err != nil {
		w.t.Fatalf("%v in %q", err, doc)
	}
	if r.MessageID != "a<b&1" || r.Sent != "2000-01-01T00:00:00Z" || r.Recipient != "sip:alice@example.com" {
		w.t.Errorf("the receipt says %+v", r)
	}
	return r
}

func TestRFC5438_ASenderWhoAsksForProcessingHearsThatAMessageIsStored(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		body := cpim("sip:carol@example.com", "positive-delivery, processing")
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, body, "Content-Type: message/cpim")...)
		w.pbx.hears("SIP/2.0 202")
		if r := w.receipt(); r.Stored == nil || r.Failed != nil {
			t.Errorf("the receipt says %+v, want stored", r)
		}
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, body, "Content-Type: message/cpim")...)
		w.pbx.hears("SIP/2.0 202") // said once
		w.pbx.silence()
		ph.wakes()
		ph.reads(body)
		w.pbx.silence() // that it was delivered is for the client to say
	})
}

func TestRFC5438_ASenderWhoAsksForItHearsThatAMessageFailed(t *testing.T) {
	asks := func(w *town) *phone {
		ph := w.phone("alice", "tls").asleep()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, cpim("im:carol@EXAMPLE.com", "negative-delivery"),
			"Content-Type: message/cpim", "Expires: 600")...)
		w.pbx.hears("SIP/2.0 202")
		w.pbx.silence()
		return ph
	}
	failed := func(w *town) {
		w.t.Helper()
		m := w.pbx.hears("MESSAGE sip:carol@example.com SIP/2.0")
		w.pbx.say(reply(m, 403)...) // nobody minds
		if !strings.Contains(m, "<delivery-notification><status><failed/>") {
			w.t.Errorf("the receipt is\n%s", m)
		}
	}
	inTown(t, func(t *testing.T, w *town) {
		ph := asks(w)
		ph.wakes()
		ph.say(reply(ph.hears("MESSAGE"), 415)...)
		failed(w)
	})
	inTown(t, func(t *testing.T, w *town) {
		asks(w)
		pass(11 * time.Minute)
		failed(w)
	})
}

// The phone takes its time, and the sender has heard 202 by then.
func TestRFC5438_ASenderHearsOfARefusalThatComesLate(t *testing.T) {
	for name, held := range map[string]bool{"as it came": false, "once held": true} {
		t.Run(name, func(t *testing.T) {
			inTown(t, func(t *testing.T, w *town) {
				ph := w.phone("alice", "tls").awake()
				if held {
					ph.sleeps()
				}
				w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, cpim("sip:carol@example.com", "negative-delivery"),
					"Content-Type: message/cpim")...)
				if held {
					w.pbx.hears("SIP/2.0 202")
					ph.wakes()
				}
				m := ph.hears("MESSAGE")
				for range 3 { // it looks all the while
					ph.inactive(false)
					pass(2 * time.Second)
				}
				if !held {
					w.pbx.hears("SIP/2.0 100")
					w.pbx.hears("SIP/2.0 202")
				}
				ph.say(reply(m, 415)...)
				if m := w.pbx.hears("MESSAGE sip:carol@example.com SIP/2.0"); !strings.Contains(m, "<failed/>") {
					t.Errorf("the receipt is\n%s", m)
				} else {
					w.pbx.say(reply(m, 200)...)
				}
				w.pbx.silence()
				ph.sleeps()
				ph.wakes()
				ph.silence()
			})
		})
	}
}

func TestRFC5438_NoReceiptThatNobodyWantsOrThatGoesToAStranger(t *testing.T) {
	const all = "positive-delivery, negative-delivery, processing"
	for name, body := range map[string]string{
		"not asked":             cpim("sip:carol@example.com", "display"),
		"CPIM names a third":    cpim("sip:victim@example.org", all),
		"anonymous":             cpim("im:anonymous@anonymous.invalid", all),
		"no namespace":          strings.Replace(cpim("sip:carol@example.com", all), "NS: imdn", "X: imdn", 1),
		"no id":                 strings.Replace(cpim("sip:carol@example.com", all), "imdn.Message-ID", "imdn.Else", 1),
		"about a receipt":       strings.Replace(cpim("sip:carol@example.com", all), "text/plain", "message/imdn+xml", 1),
		"by way of another":     strings.Replace(cpim("sip:carol@example.com", all), "\r\n\r\n", "\r\nimdn.IMDN-Record-Route: <sip:x@y>\r\n\r\n", 1),
		"a header that is none": "\x01\r\n" + cpim("sip:carol@example.com", all),
	} {
		t.Run(name, func(t *testing.T) {
			inTown(t, func(t *testing.T, w *town) {
				w.phone("alice", "tls").asleep()
				w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, body, "Content-Type: message/cpim")...)
				w.pbx.hears("SIP/2.0 202")
				w.pbx.silence()
			})
		})
	}
}

func TestRFC5438_InAStandAloneDomainTheSenderGetsIt(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		alice, bob := w.phone("alice", "tls"), w.phone("bob", "wss")
		alice.joins(0)
		bob.joins(0)
		bob.sleeps()
		body := strings.ReplaceAll(cpim("sip:alice@demo.example", "processing"), "alice@example.com", "bob@demo.example")
		alice.say(append(alice.asks("MESSAGE", "sip:bob@demo.example", "Content-Type: message/cpim"), "", body)...)
		alice.hears("SIP/2.0 202")
		m := alice.hears("MESSAGE " + alice.uri())
		alice.say(reply(m, 200)...)
		if !strings.Contains(m, "<stored/>") || !strings.HasPrefix(first(m, "From"), "<sip:bob@demo.example>") {
			t.Errorf("alice hears\n%s", m)
		}
		w.pushed(0, "message")
	})
}

func FuzzReceiptBody(f *testing.F) {
	f.Add([]byte(cpim("sip:carol@example.com", "processing")))
	f.Add([]byte("From: a\n\nb"))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, fault := sipmsg.Parse([]byte("MESSAGE sip:alice@example.com SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bKa\r\nMax-Forwards: 70\r\n" +
			"From: <sip:carol@example.com>;tag=a\r\nTo: <sip:alice@example.com>\r\nCall-ID: a\r\nCSeq: 1 MESSAGE\r\nContent-Type: message/cpim\r\n\r\n"))
		if fault != nil {
			t.Fatal(fault)
		}
		req, ok := m.(*sip.Request)
		if !ok {
			t.Fatal("no request")
		}
		req.SetBody(body)
		w, ok := wishOf(req)
		if !ok {
			return
		}
		out := newReceipt("sip:alice@example.com", "sip:carol@example.com", w, receiptStored)
		if out == nil {
			t.Fatal("no receipt")
		}
		head, rest, found := cutBlank(out.Body())
		fields, sane := cpimFields(head)
		if !found || !sane || len(fields) != 5 {
			t.Fatalf("headers of the receipt: %q", head)
		}
		_, doc, _ := cutBlank(rest)
		var r imdn
		if err := xml.Unmarshal(doc, &r); err != nil || r.Stored == nil {
			t.Fatalf("%v in %q", err, doc)
		}
	})
}
