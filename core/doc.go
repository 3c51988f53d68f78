// Package core composes and runs the inside half: it dials the edges, takes
// their flows, routes SIP between them and the PBX, wakes devices by push and
// serves the status API. Every decision is made in one of its rooms; here they
// are only given to one another. It does not know the edge but as the far end
// of its tunnel.
package core
