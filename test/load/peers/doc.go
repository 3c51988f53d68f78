// Command peers compares Sallyport with the open alternative that is closest to
// it: two Kamailios in a row, an edge that ends TLS and WebSocket and an inner
// hop that is the registrar. The same generator loads both, in turn, on one
// machine, round after round; the medians are printed as the table of
// docs/benchmarks.md.
//
// Sallyport runs as an operator runs it: its own binaries, from config files,
// with a PBX behind the core, which is the generator, and Apple's push service
// simulated. Kamailio is its own registrar, so it has one hop less to go.
package main
