// Package presence knows what clients have published of themselves: the
// documents (PIDF, RFC 3863, with RFC 4479 and RFC 4480), and the publications
// at the server (RFC 3903).
//
// It owns two things. [Away] and [Closed] change a client's own document byte by
// byte, so that all that is not theirs to change stays as it was. The [Book]
// holds, for each device that published, its document and the two entity-tags
// of its publication, the one the client knows and the one the server knows now;
// it says what should be published for a device that sleeps or is back, when,
// and how often at most, and keeps its records in a [Store].
//
// It does not know SIP, sockets, who a device is or in which state: whoever asks
// [Book.Decide] says so.
package presence
