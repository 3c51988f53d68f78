// Package interop runs real peers of Sallyport for its tests: Kamailio as PBX,
// sipp as caller and callee behind it, baresip as a client over TLS and JsSIP
// as a client over WebSocket. It owns their configurations and their lives: each
// runs on free loopback ports, its wait times are bounded, it is ended by its
// process id when the test ends, and what it printed goes to the log of a test that failed.
//
// A program that is not installed skips the test, or fails it where CI=true;
// the script setup in this folder installs them.
package interop
