// Package interop runs real peers of Sallyport for its tests: Kamailio as PBX,
// sipp as caller and callee behind it, and as clients baresip and Linphone over
// TLS, JsSIP and SIP.js under Node.js over WebSocket, and JsSIP in a page of
// Chromium with sound. It owns their configurations and their lives: each runs
// on free loopback ports, its wait times are bounded, it is ended by its process
// id when the test ends, and what it printed goes to the log of a test that failed.
//
// A program that is not installed skips the test, or fails it where CI=true;
// the script setup in this folder installs them.
package interop
