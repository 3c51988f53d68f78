// Package downstream is the core's end of the clients' flows: it names them,
// hears them in order, sends to them and knows what their keep-alives said.
//
// A flow has no goroutine, timer or buffer of its own. Messages that arrive
// wait in the queue of one of a few workers, always the same one for a flow,
// so a flow's messages are handled in the order in which the client sent them
// (RFC 3261 §16 relies on it: a CANCEL must find its INVITE). What may wait is
// bounded by the credit the tunnel has granted, and credit is returned only
// when a message has been handled.
//
// The package does not know what a message says.
package downstream
