// Package registrar is the authority of a stand-alone domain: its users file
// and digest authentication (RFC 7616, RFC 8760). It does not know bindings,
// flows, SIP messages or what a user may do; it says who a request is from.
package registrar
