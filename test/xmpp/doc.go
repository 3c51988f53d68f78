// Package xmpp runs real XMPP servers for tests, Prosody and ejabberd as Debian
// ships them, and is an XMPP client that knows what it got: XEP-0198 with resets,
// XEP-0352, over TCP, TLS and WebSocket. It talks to a server directly as it does
// through an edge and a core, of which it knows nothing.
//
// Each server has ports, directories and a process of its own and is ended by
// its process id when the test ends. One that is not installed skips the test, or
// fails it where CI=true; test/interop/setup installs them.
package xmpp
