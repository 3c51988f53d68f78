// Package loadgen plays many SIP phones on one side of an edge and the PBX on
// the other, and measures what lies between: how many operations it does in a
// second, how long each takes at the sockets, and what CPU and memory the
// processes in between use for them. It speaks just enough SIP for that, on TLS,
// WebSocket over TLS, or plain TCP. It knows no product; test/load/peers starts
// those that are compared.
package loadgen
