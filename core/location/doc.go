// Package location holds who is registered: AOR → bindings, and the devices
// behind them with their push tokens.
//
// It owns three lifetimes. A flow lives as long as its connection; when it
// ends, the bindings on it stay, flow-less. A binding lives as long as the
// client asked for. A device with a usable token outlives its bindings by
// device_keep, so that a phone asleep can be woken weeks later (B29); only the
// client's own Expires 0 ends all three at once. Everything but flows is
// written through to a [Store], from which [Location.Load] brings it back.
//
// It does not know sockets, SIP grammar, how a push travels, or in which state
// a device is (core/liveness).
package location
