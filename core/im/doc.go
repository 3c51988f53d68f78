// Package im holds messages for readers that are not there: it stores them,
// delivers them in the order in which they came, each until the device has
// given a final answer, and ends those that nobody can want any more.
//
// Of a device it knows the name alone, and of a message only how long it is
// worth keeping: what a message says, in SIP or in XMPP, how one is sent and
// what its sender hears is for who brings it ([Item], [Courier]). Where messages
// are kept is the [Store]'s.
//
// # Order
//
// The messages for one device are handled one after the other, by a goroutine
// that lives while there is something to do: a message is sent at once if the
// device looks and none is held for it, else it is stored; and what is held is
// sent when the device looks again, the next after the final answer to the one
// before.
package im
