package loadgen

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
)

// Opcodes of RFC 6455 §5.2.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// upgrade makes the connection a WebSocket for SIP (RFC 7118).
func (f *flow) upgrade(addr string) error {
	key := make([]byte, 16)
	_, _ = rand.Read(key)
	if _, err := fmt.Fprintf(f.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://%s\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Key: %s\r\n\r\n",
		f.g.server.Path, addr, f.g.cfg.Domain, base64.StdEncoding.EncodeToString(key)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(f.in, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("WebSocket upgrade: %s", resp.Status)
	}
	return nil
}

// frame writes one masked frame. f.mu is held. The mask is zero: it costs the
// server what any mask costs it, and the generator nothing.
func (f *flow) frame(op byte, payload []byte) error {
	out := append(f.out[:0], 0x80|op)
	switch n := len(payload); {
	case n < 126:
		out = append(out, 0x80|byte(n))
	default:
		out = binary.BigEndian.AppendUint16(append(out, 0x80|126), uint16(n))
	}
	out = append(out, 0, 0, 0, 0)
	f.out = append(out, payload...)
	_, err := f.conn.Write(f.out)
	return err
}

// readFrame reads one whole message into buf and answers pings.
func (f *flow) readFrame(buf []byte) ([]byte, error) {
	buf = buf[:0]
	for {
		var head [8]byte
		if _, err := io.ReadFull(f.in, head[:2]); err != nil {
			return buf, err
		}
		final, op, n := head[0]&0x80 != 0, head[0]&15, int(head[1]&127)
		switch n {
		case 126:
			if _, err := io.ReadFull(f.in, head[:2]); err != nil {
				return buf, err
			}
			n = int(binary.BigEndian.Uint16(head[:2]))
		case 127:
			return buf, errFrame
		}
		start := len(buf)
		buf = append(buf, make([]byte, n)...)
		if _, err := io.ReadFull(f.in, buf[start:]); err != nil {
			return buf, err
		}
		switch op {
		case opClose:
			return buf, errOver
		case opPing:
			f.mu.Lock()
			err := f.frame(opPong, buf[start:])
			f.mu.Unlock()
			if err != nil {
				return buf, err
			}
			buf = buf[:start]
		case opPong:
			buf = buf[:start]
		default:
			if final {
				return buf, nil
			}
		}
	}
}
