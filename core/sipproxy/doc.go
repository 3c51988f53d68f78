// Package sipproxy routes SIP between clients' flows and the PBX: it forwards
// and learns from REGISTER (mid-registrar), forks, holds calls for sleeping
// devices, cancels, and record-routes with tokens that name instances.
//
// It is a transaction-stateful proxy (RFC 3261 §16) on the parser and the
// transaction machines of sipgo/sip. Each message is parsed, matched and
// dispatched in the order in which its flow brought it; nothing here waits on
// that path. What has to wait, a call for its device, waits in a goroutine of
// its own that lives as long as the call is being set up.
//
// The package knows no sockets: clients are core/downstream's, the PBX is
// core/upstream's. How a device is woken is core/wake's; which provider
// carries the push it does not know at all.
package sipproxy
