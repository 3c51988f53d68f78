// Package session is one client's IM session, without sockets, clock or disk:
// it ends XEP-0198 on both legs, so that what the server sent waits for a
// client that is away, in order, and reaches it once.
//
// What happens comes in by methods, one at a time and with the time it
// happened; what shall be done goes out through [Out]. It knows neither how a
// stream is opened and authenticated, nor what a push is.
//
//	              inactive                     lost
//	Active ──────────────────────▶ Inactive ─────────────▶ Away
//	 ▲ │ ▲   active                                       ▲ │ ▲
//	 │ │ └────────────────────────                  lost  │ │ │ Resume
//	 │ │ no answer to <r/> for 2 s ▶ Silent ──────────────┘ │ │
//	 │ └──────────────────────────────────────────────────── │
//	 │ Swapped               server lost, store full         ▼
//	 ├────────────────────────────────────────────────── Orphan
//	 │ Relogin               refused, too old                │
//	 └────────────────────────────────────────────────── Retired ──▶ Ended
//
// # Numbers
//
// The client counts what it gets (d), the core counts what it gets from the
// server (u). One stanza raises both, except: what is for the core alone
// raises u, a stanza of the core's own raises d, and what is superseded while
// it waits raises u and never d. After a kill the client's h says which d it
// has; which u that is follows from the last entry in the journal, because
// each deviation is on disk before anything behind it is sent. The same holds
// for the other direction: which of the client's stanzas the server's h
// stands for.
//
// Nothing is acknowledged that is not safe. The server is told what the client
// acknowledged or what is on disk; the client is told what the server
// acknowledged. A session whose client answers writes nothing to disk.
package session
