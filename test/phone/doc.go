// Package phone is a SIP phone without ears: a scripted client over TLS,
// WebSocket or plain TCP, for tests and the demo. A test tells it each step
// (register, call, ring, answer, sleep) and reads what came of it; nothing
// happens by a timer of its own, and each wait ends with its context.
//
// It behaves as the pickier of real clients do, so that what it accepts they
// accept too: it drops a response with more than one Via, answers 482 to a
// merged request and ignores a 2xx that lacks its own contact (all as JsSIP
// does), uses a .invalid host over WebSocket (RFC 7118 §5), and notes in
// [Phone.Complaints] what another client would have stumbled over.
//
// It knows neither edge nor core: it can talk to any SIP server.
package phone
