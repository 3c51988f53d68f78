// Package xmppproxy serves XMPP clients: it relays their logins to the servers
// of their domains, joins each client's flow to a stream of the server's, and
// keeps that stream, and what comes on it, while the client is away.
//
// It owns the flows of the service "xmpp" ([Proxy] is their handler), the
// logins under way, and the registry of sessions with their journal. What a
// session does with a stanza is core/xmppproxy/session's, how a server is
// reached core/upstream/c2s's, and what is worth a push a [Notifier]'s.
//
// # Who runs where
//
// A flow's elements are cut by the worker of its flow, which never waits: a
// login has a goroutine as long as it takes, and each stream of a server has
// the one that reads it. A session is used under the lock of its line, by the
// flow's worker, the stream's reader, the agenda and the journal's writers
// alike. Locks are taken in the order line, conn, then any other, and one of
// each kind at most.
//
// # Who may resume
//
// The name in a client's login (PLAIN, SCRAM) says whose sessions it may resume
// once the server accepted it (probe). Where the name cannot be read, or the
// session has no stream any more, the server itself decides: the client's
// fresh stream sends <resume/> for the session's old one (swap).
package xmppproxy
