package frame

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// CloseCode says why a flow ended.
type CloseCode uint16

// Why flows end. Unknown codes are passed on as they are.
const (
	CloseClient       CloseCode = 1  // the client closed its connection in order
	CloseReset        CloseCode = 2  // the client's connection broke
	CloseKeepalive    CloseCode = 3  // the client no longer answered keep-alives
	CloseSlowConsumer CloseCode = 4  // a full window, and no progress
	CloseProtocol     CloseCode = 5  // the client broke its protocol
	ClosePolicy       CloseCode = 6  // a limit, or the core does not want it
	CloseDrain        CloseCode = 7  // the sender is leaving
	CloseTunnelLost   CloseCode = 8  // the tunnel was gone for longer than grace
	CloseKicked       CloseCode = 9  // an operator or a newer flow ended it
	CloseReconnect    CloseCode = 10 // the client should connect anew
)

var closeNames = [...]string{
	CloseClient: "client-closed", CloseReset: "client-reset", CloseKeepalive: "keepalive-lost",
	CloseSlowConsumer: "slow-consumer", CloseProtocol: "protocol", ClosePolicy: "policy",
	CloseDrain: "drain", CloseTunnelLost: "tunnel-lost", CloseKicked: "kicked", CloseReconnect: "reconnect",
}

// String returns the code's name, "client-closed" for instance.
func (c CloseCode) String() string {
	if c > 0 && int(c) < len(closeNames) {
		return closeNames[c]
	}
	return fmt.Sprintf("close-%d", uint16(c))
}

// GoAwayCode says why a link ends.
type GoAwayCode uint16

// Why links end. All but GoAwayLeaving are faults somebody should look at.
const (
	GoAwayLeaving  GoAwayCode = 1 // the sender stops; dial again
	GoAwayProtocol GoAwayCode = 2 // the receiver of this frame broke the protocol
	GoAwayReplaced GoAwayCode = 3 // a newer session of the same node took over
	GoAwayVersion  GoAwayCode = 4 // no common minor version
	GoAwayIdentity GoAwayCode = 5 // HELLO's name or role is not the certificate's
	GoAwayDead     GoAwayCode = 6 // nothing was heard for too long, or nothing moved
	GoAwayReset    GoAwayCode = 7 // the session cannot go on; begin a new one
)

var goAwayNames = [...]string{
	GoAwayLeaving: "leaving", GoAwayProtocol: "protocol", GoAwayReplaced: "replaced",
	GoAwayVersion: "version", GoAwayIdentity: "identity", GoAwayDead: "dead", GoAwayReset: "reset",
}

// String returns the code's name, "leaving" for instance.
func (c GoAwayCode) String() string {
	if c > 0 && int(c) < len(goAwayNames) {
		return goAwayNames[c]
	}
	return fmt.Sprintf("goaway-%d", uint16(c))
}

// Event is something that happened to a flow that goes on.
type Event byte

// The events of this version. Receivers ignore those they do not know.
const (
	EventSilent Event = 1 // the client's keep-alives stopped
	EventAlive  Event = 2 // and are heard again
)

// String returns the event's name, "silent" for instance.
func (e Event) String() string {
	switch e {
	case EventSilent:
		return "silent"
	case EventAlive:
		return "alive"
	}
	return fmt.Sprintf("event-%d", byte(e))
}

// AppendClose appends a CLOSE. Text beyond MaxText bytes is cut off.
func AppendClose(b []byte, flow uint32, code CloseCode, text string) []byte {
	return appendCoded(b, TypeClose, flow, uint16(code), text)
}

// AppendGoAway appends a GOAWAY. Text beyond MaxText bytes is cut off.
func AppendGoAway(b []byte, code GoAwayCode, text string) []byte {
	return appendCoded(b, TypeGoAway, 0, uint16(code), text)
}

func appendCoded(b []byte, t Type, flow uint32, code uint16, text string) []byte {
	text = clip(text)
	b = AppendHeader(b, t, flow, 2+len(text))
	return append(binary.BigEndian.AppendUint16(b, code), text...)
}

// clip shortens s to MaxText bytes without cutting a character in two.
func clip(s string) string {
	if len(s) <= MaxText {
		return s
	}
	n := MaxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// ParseClose reads the payload of a CLOSE whose header was valid.
func ParseClose(p []byte) (CloseCode, string) {
	code, text := parseCoded(p)
	return CloseCode(code), text
}

// ParseGoAway reads the payload of a GOAWAY whose header was valid.
func ParseGoAway(p []byte) (GoAwayCode, string) {
	code, text := parseCoded(p)
	return GoAwayCode(code), text
}

func parseCoded(p []byte) (uint16, string) {
	return binary.BigEndian.Uint16(p), strings.ToValidUTF8(string(p[2:]), "?")
}
