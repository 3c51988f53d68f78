package loadgen

import (
	"strconv"
)

// branchPrefix and callPrefix begin what the generator finds its own
// transactions and calls by; a number of 16 hexadecimal digits follows.
const (
	branchPrefix = "z9hG4bKlg"
	callPrefix   = "lgc"
)

const allow = "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, MESSAGE, NOTIFY, REFER, INFO, UPDATE\r\n"

const agent = "User-Agent: loadgen/1.0\r\n"

// offer is the SDP of a call with one voice line.
const offer = "v=0\r\no=- 3890000000 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/SAVP 9 0 8 101\r\n" +
	"a=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n" +
	"a=fmtp:101 0-15\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw\r\n" +
	"a=ptime:20\r\na=sendrecv\r\n"

// A request is what the generator sends. Empty fields give no header.
type request struct {
	method, uri       string
	branch            uint64
	routes            string // whole Route headers
	from, to, callID  string
	cseq              uint32
	contact           string // value
	headers           string // whole headers
	contentType, body string
}

// appendTo writes the request as it leaves on f.
func (r *request) appendTo(b []byte, f *flow) []byte {
	b = append(b, r.method...)
	b = append(b, ' ')
	b = append(b, r.uri...)
	b = append(b, " SIP/2.0\r\nVia: SIP/2.0/"...)
	b = append(b, f.via...)
	b = append(b, ' ')
	b = append(b, f.host...)
	b = append(b, ";rport;branch="+branchPrefix...)
	b = appendHex(b, r.branch)
	b = append(b, "\r\n"...)
	b = append(b, r.routes...)
	b = append(b, "Max-Forwards: 70\r\nFrom: "...)
	b = append(b, r.from...)
	b = append(b, "\r\nTo: "...)
	b = append(b, r.to...)
	b = append(b, "\r\nCall-ID: "...)
	b = append(b, r.callID...)
	b = append(b, "\r\nCSeq: "...)
	b = strconv.AppendUint(b, uint64(r.cseq), 10)
	b = append(b, ' ')
	b = append(b, r.method...)
	if r.contact != "" {
		b = append(b, "\r\nContact: "...)
		b = append(b, r.contact...)
	}
	b = append(b, "\r\n"...)
	b = append(b, r.headers...)
	b = append(b, agent...)
	return appendBody(b, r.contentType, r.body)
}

// A reply is an answer to m.
type reply struct {
	status  int
	reason  string
	tag     string // of To, unless it has one
	contact string
	headers string
	body    string // an SDP
}

// appendTo writes the answer to m.
func (r *reply) appendTo(b []byte, m *message) []byte {
	b = append(b, "SIP/2.0 "...)
	b = strconv.AppendInt(b, int64(r.status), 10)
	b = append(b, ' ')
	b = append(b, r.reason...)
	b = append(b, "\r\n"...)
	for _, via := range m.vias {
		b = append(b, via...)
		b = append(b, "\r\n"...)
	}
	for _, route := range m.routes {
		b = append(b, "Record-Route: "...)
		b = append(b, route...)
		b = append(b, "\r\n"...)
	}
	b = append(b, "From: "...)
	b = append(b, m.from...)
	b = append(b, "\r\nTo: "...)
	b = append(b, m.to...)
	if r.tag != "" && param(m.to, "tag") == nil {
		b = append(b, ";tag="...)
		b = append(b, r.tag...)
	}
	b = append(b, "\r\nCall-ID: "...)
	b = append(b, m.callID...)
	b = append(b, "\r\nCSeq: "...)
	b = append(b, m.cseq...)
	if r.contact != "" {
		b = append(b, "\r\nContact: "...)
		b = append(b, r.contact...)
	}
	b = append(b, "\r\n"...)
	b = append(b, r.headers...)
	return appendBody(b, "application/sdp", r.body)
}

func appendBody(b []byte, contentType, body string) []byte {
	if body != "" {
		b = append(b, "Content-Type: "...)
		b = append(b, contentType...)
		b = append(b, "\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}

// appendHex writes v as 16 hexadecimal digits.
func appendHex(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&15])
	}
	return b
}

// number reads what appendHex wrote behind a prefix.
func number(b []byte, prefix string) (v uint64, ok bool) {
	if len(b) < len(prefix)+16 || string(b[:len(prefix)]) != prefix {
		return 0, false
	}
	v, err := strconv.ParseUint(string(b[len(prefix):len(prefix)+16]), 16, 64)
	return v, err == nil
}
