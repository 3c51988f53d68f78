// Package c2s owns the core's streams to XMPP servers, one for each client:
// they are resolved, connected, encrypted and read up to the features that
// offer a login, over TCP with STARTTLS, over TLS, in plain, or over a
// WebSocket (RFC 7395). It tells what is wrong with a server, and how its
// domain fares.
//
// It does not know who logs in, what a session is, nor what a stanza means.
//
// # Waiting costs nothing
//
// A stream that waits has its one reader, which is parked until the socket has
// bytes and only then takes a buffer from a pool, and no writer: what is
// written goes to the socket at once, and what the socket does not take is
// queued and written by a goroutine that lives until the queue is empty. What
// TLS itself keeps is not ours: one record, as long as the longest that came.
//
// # Whose certificate
//
// A server's certificate is good when it is valid for the domain of its users
// (RFC 6120 §13.7.2, RFC 7590 §3.4), or for the host that the operator wrote as
// upstream; never for a name that only DNS told. The name asked for (SNI) is
// the domain over TCP, and the host over a WebSocket, where HTTP rules.
//
// # Channel binding
//
// A client whose TLS ends at the edge cannot bind its login to the server's
// TLS. A server that offers mechanisms for it (-PLUS) would take a client that
// could and did not for the victim of a downgrade, and refuse it (RFC 5802 §6);
// some clients fall back to PLAIN then. Such a server is refused before
// anybody logs in, unless edge and server show the same certificate: then
// tls-server-end-point (RFC 5929 §4) holds, and nothing else does.
package c2s
