// Package upstream owns the core's connections to the company's SIP servers:
// the listeners they call, the TCP connections dialled to them, who of them is
// trusted, and how they fare. It hands whole messages over in the order they
// came in on each connection. It does not read SIP beyond a message's end,
// knows no client, and chooses no route: callers name a domain, or a next hop
// that they sealed themselves.
package upstream
