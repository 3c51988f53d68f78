package sipproxy

import (
	"bytes"
	"encoding/xml"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
	"sallyport/core/sipmsg"
)

// The sender of a message in CPIM (RFC 3862) may ask what becomes of it (RFC
// 5438). Whoever stores and forwards it may say that it is stored, and that it
// could not be delivered; that it was is for the client to say.

// receiptKind is what a receipt of ours says.
type receiptKind struct {
	asked string // the Disposition-Notification that asks for it
	body  string // what it says
}

var (
	receiptStored = receiptKind{"processing", "<processing-notification><status><stored/></status></processing-notification>"}
	receiptFailed = receiptKind{"negative-delivery", "<delivery-notification><status><failed/></status></delivery-notification>"}
)

const (
	nsIMDN        = "urn:ietf:params:imdn"
	maxAddress    = 512 // of a CPIM address, in bytes
	maxMessageID  = 256
	maxCPIMFields = 64
)

// wish is what a message says of the receipts that its sender wants.
type wish struct {
	id       string
	from, to sipmsg.NameAddr
	sent     string // DateTime
	asked    map[string]bool
	routed   bool // receipts go by way of an intermediary
}

// wishOf reads the CPIM headers of a message. ok is false if no receipt is
// wanted, or none may be sent.
func wishOf(req *sip.Request) (w wish, ok bool) {
	if mediaType(headerValue(req, "Content-Type")) != "message/cpim" {
		return w, false
	}
	if kind, _ := contentOf(req); kinds[kind] != worthPush {
		return w, false // never about a receipt (RFC 5438 §5)
	}
	head, _, found := cutBlank(req.Body())
	fields, sane := cpimFields(head)
	if !found || !sane {
		return w, false
	}
	prefix := ""
	for _, f := range fields {
		if name, urn, _ := strings.Cut(f.value, "<"); f.name == "NS" && strings.TrimSuffix(urn, ">") == nsIMDN {
			prefix = strings.TrimSpace(name) + "."
		}
	}
	w.asked = make(map[string]bool)
	addressed := 0
	for _, f := range fields {
		name, ours := strings.CutPrefix(f.name, prefix)
		switch {
		case f.name == "From" || f.name == "To":
			na, err := sipmsg.ParseNameAddr(f.value)
			if err != nil || len(f.value) > maxAddress {
				return w, false
			}
			if addressed++; f.name == "From" {
				w.from = na
			} else {
				w.to = na
			}
		case f.name == "DateTime":
			if _, err := time.Parse(time.RFC3339, f.value); err == nil {
				w.sent = f.value
			}
		case prefix == "" || !ours:
		case name == "Message-ID":
			w.id = f.value
		case name == "IMDN-Record-Route":
			w.routed = true
		case name == "Disposition-Notification":
			for word := range strings.SplitSeq(f.value, ",") {
				word, _, _ = strings.Cut(word, ";")
				w.asked[strings.TrimSpace(word)] = true
			}
		}
	}
	return w, addressed == 2 && w.id != "" && len(w.id) <= maxMessageID && !w.routed
}

type cpimField struct{ name, value string }

// cpimFields reads headers; a line that holds what is no text makes them none.
func cpimFields(head []byte) (fields []cpimField, ok bool) {
	for line := range bytes.Lines(head) {
		name, value, found := strings.Cut(strings.TrimRight(string(line), "\r\n"), ":")
		control := strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd })
		if !found || control || len(fields) == maxCPIMFields {
			return nil, false
		}
		fields = append(fields, cpimField{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return fields, true
}

// receipt tells the sender of a message for one of our users what became of it,
// if it wants to know. It is a message itself, and nobody waits for its answer.
func (p *Proxy) receipt(aor string, about *sip.Request, kind receiptKind) {
	w, ok := wishOf(about)
	if !ok || !w.asked[kind.asked] {
		return
	}
	from, err := sipmsg.ParseNameAddr(headerValue(about, "From"))
	// What a stranger writes into CPIM does not make us send to a third.
	if err != nil || from.URI.Scheme != "sip" && from.URI.Scheme != "sips" || !sameUser(from.URI, w.from.URI) {
		return
	}
	req := newReceipt(aor, from.URI.AOR(), w, kind)
	if req == nil {
		return
	}
	domain := domainOf(aor)
	switch dom := p.domains[domain]; {
	case dom == nil:
	case dom.Registrar == nil:
		p.journey(domain, aor, hopAddr{}).begin(func(pe *peer) {
			out := (&draft{from: req, uri: req.Recipient}).build(p.newVia(pe, req))
			_, err := p.request(pe, out, func(res *sip.Response) {
				if res.StatusCode >= 300 {
					p.log.Info("the PBX does not take a receipt of ours: let it trust our address for MESSAGE", "domain", domain, "status", res.StatusCode)
				}
			}, func(error) {})
			if err != nil {
				p.log.Debug("receipt not sent", "domain", domain, "err", err)
			}
		}, func(err error) { p.log.Debug("receipt not sent", "domain", domain, "err", err) })
	case p.standsAlone(from.URI.Host):
		p.receiptHome(req, from.URI)
	}
}

// receiptHome takes a receipt to a user of a stand-alone domain.
func (p *Proxy) receiptHome(req *sip.Request, to sipmsg.URI) {
	if p.im == nil {
		return
	}
	devices, status := p.devicesOf(to)
	ids := p.mailed(devices)
	switch status {
	case 0:
	case 480:
		ids = []location.DeviceID{{AOR: to.AOR()}}
	default:
		return
	}
	p.deliver(&post{p: p, req: req, kind: kindOf(req), came: time.Now()}, ids)
}

// sameUser says whether two addresses, sip: or im:, are of one user.
func sameUser(a, b sipmsg.URI) bool {
	return userAt(a) != "" && userAt(a) == userAt(b)
}

func userAt(u sipmsg.URI) string {
	user, host := u.User, u.Host
	if u.Opaque != "" {
		user, host, _ = strings.Cut(u.Opaque, "@")
	}
	if user == "" || host == "" {
		return ""
	}
	return user + "@" + strings.ToLower(host)
}

// newReceipt makes a receipt from a user of ours, nil if an address is none.
func newReceipt(from, to string, w wish, kind receiptKind) *sip.Request {
	var uri sip.Uri
	if sip.ParseUri(to, &uri) != nil {
		return nil
	}
	req := sip.NewRequest(sip.MESSAGE, uri)
	appendAll(req, []sip.Header{
		sip.NewHeader("Via", "SIP/2.0/TLS "+domainOf(from)+";branch=z9hG4bK"+random(16)), // never sent
		sip.NewHeader("Max-Forwards", "70"), sip.NewHeader("From", "<"+from+">;tag="+random(16)), sip.NewHeader("To", "<"+to+">"),
		sip.NewHeader("Call-ID", random(24)), &sip.CSeqHeader{SeqNo: 1, MethodName: sip.MESSAGE},
		sip.NewHeader("Content-Type", "message/cpim"),
	})
	req.SetBody(receiptBody(w, kind, time.Now()))
	m, fault := sipmsg.Parse(sipmsg.Bytes(req)) // typed headers, as of one that came
	if again, ok := m.(*sip.Request); ok && fault == nil {
		return again
	}
	return nil
}

// receiptBody is the IMDN (RFC 5438 §7.2) in CPIM, addressed back.
func receiptBody(w wish, kind receiptKind, now time.Time) []byte {
	if w.sent == "" {
		w.sent = now.UTC().Format(time.RFC3339)
	}
	var doc bytes.Buffer
	doc.WriteString(`<?xml version="1.0" encoding="UTF-8"?><imdn xmlns="urn:ietf:params:xml:ns:imdn">`)
	for _, e := range [...]struct{ name, text string }{
		{"message-id", w.id}, {"datetime", w.sent}, {"recipient-uri", w.to.URI.String()},
	} {
		doc.WriteString("<" + e.name + ">")
		_ = xml.EscapeText(&doc, []byte(e.text)) // a buffer takes everything
		doc.WriteString("</" + e.name + ">")
	}
	doc.WriteString(kind.body + "</imdn>")

	head := func(name, value string) string { return name + ": " + value + "\r\n" }
	return []byte(head("From", w.to.String()) + head("To", w.from.String()) + head("NS", "imdn <"+nsIMDN+">") +
		head("imdn.Message-ID", random(20)) + head("DateTime", now.UTC().Format(time.RFC3339)) + "\r\n" +
		head("Content-Type", "message/imdn+xml") + head("Content-Disposition", "notification") + "\r\n" + doc.String())
}
