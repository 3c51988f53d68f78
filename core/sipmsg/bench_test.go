package sipmsg

import (
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// bigInvite is an INVITE of some 1.9 kB as a softphone sends it.
func bigInvite() []byte {
	body := "v=0\r\no=- 3871 3871 IN IP4 192.0.2.15\r\ns=call\r\nc=IN IP4 192.0.2.15\r\nt=0 0\r\n" +
		"m=audio 49217 UDP/TLS/RTP/SAVPF 96 0 8 101\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n" +
		strings.Repeat("a=candidate:1 1 UDP 2130706431 192.0.2.15 49217 typ host\r\n", 8)
	lines := []string{
		"INVITE sip:bob@example.com;transport=tls SIP/2.0",
		"Via: SIP/2.0/TLS 192.0.2.15:51234;rport;branch=z9hG4bKPj7d1f3a5c9b2e4d6f;alias",
		"Max-Forwards: 70",
		`From: "Alice Example" <sip:alice@example.com>;tag=8a7d6f5e4c3b2a19`,
		"To: <sip:bob@example.com>",
		`Contact: "Alice Example" <sip:alice@192.0.2.15:51234;transport=TLS;ob>;+sip.instance="<urn:uuid:00000000-0000-0000-0000-0000dead0001>"`,
		"Call-ID: f81d4fae7dec11d0a76500a0c91e6bf6",
		"CSeq: 22871 INVITE",
		"Route: <sip:edge.example.com:5061;transport=tls;lr>",
		"Allow: PRACK, INVITE, ACK, BYE, CANCEL, UPDATE, INFO, SUBSCRIBE, NOTIFY, REFER, MESSAGE, OPTIONS",
		"Supported: replaces, 100rel, timer, norefersub, gruu, outbound",
		"Session-Expires: 1800",
		"Min-SE: 90",
		"User-Agent: Phone 4.2 (Linux 6.1; x86_64)",
		`Proxy-Authorization: Digest username="alice", realm="example.com", nonce="ZmI2ZTQyZDY0NTAwMDAwMDAwMDAwMDAw", uri="sip:bob@example.com", response="8ca523f5e9506fed4657c9700eebdbec", algorithm=MD5, cnonce="a1b2c3d4", qop=auth, nc=00000001`,
		"P-Preferred-Identity: <sip:alice@example.com>",
		"Accept: application/sdp, application/dtmf-relay",
		"Content-Type: application/sdp",
		"Content-Length: " + itoa(len(body)),
	}
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n" + body)
}

func itoa(n int) string { h := sip.ContentLengthHeader(n); return h.Value() }

// BenchmarkParse is to stay below twice BenchmarkSipgoParseSIP.
func BenchmarkParse(b *testing.B) {
	raw := bigInvite()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, f := Parse(raw); f != nil {
			b.Fatal(f)
		}
	}
}

func BenchmarkSipgoParseSIP(b *testing.B) {
	raw := bigInvite()
	p := sip.NewParser()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.ParseSIP(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBytes(b *testing.B) {
	m, f := Parse(bigInvite())
	if f != nil {
		b.Fatal(f)
	}
	b.ReportAllocs()
	for b.Loop() {
		Bytes(m)
	}
}

func BenchmarkContactPush(b *testing.B) {
	m, f := Parse([]byte(register(linphoneContact)))
	if f != nil {
		b.Fatal(f)
	}
	b.ReportAllocs()
	for b.Loop() {
		cs, f := Contacts(m)
		if f != nil || len(cs[0].Push().Tokens) != 2 {
			b.Fatal(f)
		}
	}
}
