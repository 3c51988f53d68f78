package transport

import (
	"crypto/sha1" // #nosec G505 -- RFC 6455 §4.2.2 asks for it; it protects nothing
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// keyGUID is what the answer to a key is made with (RFC 6455 §1.3).
const keyGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// frame upgrades c, of which judge approved, to a connection with frames of
// our own. What came behind the request is in head.
func (t *Transport) frame(c net.Conn, head *prefixed, req *http.Request, subprotocol string) (Conn, *Refusal) {
	key, no := keyOf(req)
	if no != nil {
		return nil, no
	}
	sum := sha1.Sum([]byte(key + keyGUID)) // #nosec G401 -- as above
	_, err := fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-Websocket-Accept: %s\r\nSec-Websocket-Protocol: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]), subprotocol)
	if err != nil {
		return nil, &Refusal{Status: 0, Why: DeniedHTTP, Err: err}
	}
	return &framed{t: t, conn: c, text: subprotocol == XMPP, rest: head.rest}, nil
}

// keyOf checks the rest of a client's handshake (RFC 6455 §4.2.1).
func keyOf(req *http.Request) (string, *Refusal) {
	keys := req.Header.Values("Sec-WebSocket-Key")
	switch {
	case !req.ProtoAtLeast(1, 1):
		return "", &Refusal{Status: http.StatusUpgradeRequired, Why: DeniedHTTP, Err: errors.New("an upgrade needs HTTP/1.1")}
	case !offers(req.Header, "Connection", "Upgrade"):
		return "", &Refusal{Status: http.StatusUpgradeRequired, Why: DeniedHTTP, Err: errors.New("this is a WebSocket endpoint")}
	case req.Header.Get("Sec-WebSocket-Version") != "13":
		return "", &Refusal{Status: http.StatusBadRequest, Why: DeniedHTTP, Err: errors.New("only version 13 of WebSocket is spoken here")}
	case len(keys) != 1:
		return "", &Refusal{Status: http.StatusBadRequest, Why: DeniedHTTP, Err: errors.New("not one Sec-WebSocket-Key")}
	}
	key := strings.TrimSpace(keys[0])
	if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 16 {
		return "", &Refusal{Status: http.StatusBadRequest, Why: DeniedHTTP, Err: errors.New("a Sec-WebSocket-Key that is none")}
	}
	return key, nil
}
