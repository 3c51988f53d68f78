// Package sipmsg reads, checks and edits SIP text. It turns one raw message
// into sipgo's message type with canonical header names, one header per value
// and the faults RFC 4475 describes already named, and it parses contacts,
// URIs and push parameters by itself. It is pure: it knows no sockets, flows,
// transactions or routing, and it decides no policy beyond grammar.
//
// What Parse hands out:
//
//   - Via, Route, CSeq, Call-ID, Max-Forwards and Content-Length are typed;
//     From, To and Record-Route are typed when sipgo writes them back exactly
//     as they came, and verbatim text otherwise; every other header is
//     verbatim text. So a header nobody touches leaves as it arrived, while
//     sipgo's accessors (From, To, Contact, Expires…) work on all of them.
//   - Two pitfalls of sipgo remain for callers: Clone shares the Max-Forwards
//     value between copies, so use [SetMaxForwards]; and RemoveHeader removes
//     one header in exact case, so use [Remove].
package sipmsg
