// Package certs loads, checks and hot-reloads the keys that Sallyport shows:
// the bundle by which edge and core know each other in the tunnel, and the
// public certificates by which clients know the edge. It pins the tunnel's
// private CA and checks the peer's role and name; it does not know what TLS
// carries, and it cannot sign (certs/ca can).
//
// A bundle is one PEM file: the certificate, its private key and the CA. The
// certificate names its holder twice, as DNS name or IP address and as the
// URI spiffe://sallyport/edge/NAME or spiffe://sallyport/core/NAME. Only the
// URI gives the role, so an edge's bundle, stolen from the DMZ, opens no
// other edge and poses as no core.
//
// The public certificate comes from files or, by ACME, from an authority that
// calls back to see whose name it is. Each attempt is an autocert.Manager of
// its own: when to try, what to serve meanwhile and what to say of it is
// decided here. State is under one small lock, or replaced whole.
package certs
