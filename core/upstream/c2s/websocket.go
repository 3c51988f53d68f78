package c2s

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 §4.2.2 asks for it; it protects nothing
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// The client's side of a WebSocket (RFC 6455), as far as RFC 7395 needs it: text
// messages, no extension. It works on the bytes of a stream's shared buffers, so
// that a stream that waits keeps none.

type opcode byte

const (
	opContinue opcode = 0
	opText     opcode = 1
	opClose    opcode = 8
	opPing     opcode = 9
	opPong     opcode = 10
)

const (
	fin      = 0x80
	reserved = 0x70
	masked   = 0x80

	maxControl = 125 // bytes of a control frame
)

// appendMasked appends a frame with p, masked as a client's must be.
func appendMasked(dst []byte, op opcode, p []byte) []byte {
	dst = append(dst, fin|byte(op))
	switch n := len(p); {
	case n <= maxControl:
		dst = append(dst, masked|byte(n))
	case n <= 0xFFFF:
		dst = binary.BigEndian.AppendUint16(append(dst, masked|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, masked|127), uint64(n))
	}
	var key [4]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	dst = append(dst, key[:]...)
	for i, x := range p {
		dst = append(dst, x^key[i&3])
	}
	return dst
}

// frames takes messages out of what a server sent. It belongs to the stream's
// reader.
type frames struct {
	most int // bytes of a message

	in      []byte // what was fed and not yet returned, the caller's until all is returned
	rest    []byte // what is unfinished, our own
	message []byte // the fragments of a message so far
	partly  bool   // a message is unfinished
}

// feed gives bytes, which are used until next wants more.
func (f *frames) feed(p []byte) {
	if len(f.rest) > 0 {
		f.rest = append(f.rest, p...)
		f.in = f.rest
		return
	}
	f.in = p
}

// next returns a message (opText) or a control frame; ok is false when more
// has to be fed. The payload is valid until the next call.
func (f *frames) next() (op opcode, payload []byte, ok bool, err error) {
	for {
		var final bool
		op, final, payload, ok, err = f.frame()
		if !ok || err != nil {
			return 0, nil, false, err
		}
		switch {
		case op >= opClose:
			return op, payload, true, nil
		case op == opText && !f.partly && final:
			return text(payload)
		case (op == opText) == f.partly:
			return 0, nil, false, fmt.Errorf("%w: fragments out of order", ErrFrame)
		case len(f.message)+len(payload) > f.most:
			return 0, nil, false, fmt.Errorf("%w: longer than %d bytes", ErrFrame, f.most)
		}
		f.message, f.partly = append(f.message, payload...), !final
		if final {
			whole := f.message
			f.message = nil
			return text(whole)
		}
	}
}

func text(p []byte) (opcode, []byte, bool, error) {
	if !utf8.Valid(p) {
		return 0, nil, false, fmt.Errorf("%w: not UTF-8", ErrFrame)
	}
	return opText, p, true, nil
}

// frame takes one frame.
func (f *frames) frame() (op opcode, final bool, payload []byte, ok bool, err error) {
	b := f.in
	if len(b) < 2 {
		f.keep()
		return 0, false, nil, false, nil
	}
	op, final = opcode(b[0]&0x0F), b[0]&fin != 0
	n, head := uint64(b[1]&^masked), 2
	switch {
	case b[0]&reserved != 0, b[1]&masked != 0:
		return 0, false, nil, false, fmt.Errorf("%w: reserved bits, or masked", ErrFrame)
	case op != opContinue && op != opText && (op < opClose || op > opPong):
		return 0, false, nil, false, fmt.Errorf("%w: opcode %d", ErrFrame, op)
	case op >= opClose && (n > maxControl || !final):
		return 0, false, nil, false, fmt.Errorf("%w: control frame too long", ErrFrame)
	case n == 126 && len(b) >= 4:
		n, head = uint64(binary.BigEndian.Uint16(b[2:])), 4
	case n == 127 && len(b) >= 10:
		n, head = binary.BigEndian.Uint64(b[2:]), 10
	case n > maxControl:
		f.keep()
		return 0, false, nil, false, nil
	}
	if n > uint64(f.most) {
		return 0, false, nil, false, fmt.Errorf("%w: longer than %d bytes", ErrFrame, f.most)
	}
	if uint64(len(b)) < uint64(head)+n {
		f.keep()
		return 0, false, nil, false, nil
	}
	f.in = b[head+int(n):]
	return op, final, b[head : head+int(n)], true, nil
}

// keep holds on to what is unfinished, and to nothing else.
func (f *frames) keep() {
	if len(f.in) == 0 {
		f.in, f.rest = nil, nil
		return
	}
	if len(f.rest) > 0 {
		f.rest = append(f.rest[:0], f.in...)
	} else {
		f.rest = append([]byte(nil), f.in...)
	}
	f.in = nil
}

// acceptOf is what a server answers to a key (RFC 6455 §4.2.2).
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// maxAnswer bounds the answer to the handshake.
const maxAnswer = 16 << 10

// upgrade makes a WebSocket of the connection rw, and returns what the server
// sent already.
func upgrade(rw io.ReadWriter, t Target, client netip.Addr) (early []byte, remedy string, err error) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand)
	key := base64.StdEncoding.EncodeToString(nonce[:])
	req := "GET " + t.Path + " HTTP/1.1\r\nHost: " + t.hostport() + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + key + "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: xmpp\r\n"
	if client.IsValid() {
		// A server that trusts this host takes them for the client's address, and
		// for the TLS that the client has with the edge.
		req += "X-Forwarded-For: " + client.Unmap().WithZone("").String() + "\r\nX-Forwarded-Proto: https\r\n"
	}
	if _, err := io.WriteString(rw, req+"\r\n"); err != nil {
		return nil, "", err
	}
	in := bufio.NewReader(io.LimitReader(rw, maxAnswer))
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return nil, "does a web server listen there, and is ws:// or wss:// right?", err
	}
	defer res.Body.Close() // of a 101 there is none
	switch {
	case res.StatusCode == http.StatusNotFound:
		return nil, "name the path of its WebSocket: Prosody has /xmpp-websocket (mod_websocket) on the host that http_default_host or the URL names, ejabberd what request_handlers gives ejabberd_http_ws", fmt.Errorf("answered %s for %s", res.Status, t.Path)
	case res.StatusCode != http.StatusSwitchingProtocols:
		return nil, "the URL must be that of the server's XMPP WebSocket", fmt.Errorf("answered %s for %s", res.Status, t.Path)
	case !strings.EqualFold(res.Header.Get("Upgrade"), "websocket"), res.Header.Get("Sec-WebSocket-Accept") != acceptOf(key):
		return nil, "", fmt.Errorf("%w: not a WebSocket's answer", ErrFrame)
	case res.Header.Get("Sec-WebSocket-Protocol") != "xmpp":
		return nil, "the URL must be that of the server's XMPP WebSocket", fmt.Errorf("answered without subprotocol xmpp")
	case res.Header.Get("Sec-WebSocket-Extensions") != "":
		return nil, "", fmt.Errorf("%w: an extension that was not asked for", ErrFrame)
	}
	early, _ = in.Peek(in.Buffered())
	return append([]byte(nil), early...), "", nil
}
