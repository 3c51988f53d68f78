// Package lossy joins two hosts by a bad line: real TCP of this kernel, in two
// network namespaces made for the purpose, over a line that delays, loses and
// throttles packets as a test wants, and can be cut without a word to either
// end. It needs no netem in the kernel, only Linux, root (CAP_SYS_ADMIN) and
// /dev/net/tun; where these are missing the test is skipped.
//
//	host A ── tun ──▶ reader ─▶ lose? ─▶ queue, rate, delay ─▶ writer ──▶ tun ── host B
//
// It does not know what the packets carry.
package lossy
