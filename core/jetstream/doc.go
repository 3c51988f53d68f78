// Package jetstream holds the core's stores, on NATS JetStream. It owns the
// embedded server with its directory, or the connection to a cluster, the
// queue of pushes, and the key-value buckets: devices, traces, keys and the like.
//
// It does not know what the values mean, except for the keys it makes itself.
//
// # What survives what
//
// [Bucket.Put] of devices returns when JetStream acknowledged the write. The
// embedded server hands every write of an unreplicated stream to the operating
// system before it acknowledges, so an acknowledged one survives kill -9 of the
// process; it is not fsynced at once, so a machine that loses power may lose the
// writes of the last two minutes, and clients register again. A cluster
// acknowledges when most replicas have the write. Puts of traces are not waited
// for: a trace is no promise to anybody.
//
// [Outbox.Add] promises what Put of devices does: a row survives kill -9, not
// always a loss of power. A push announces what is kept elsewhere, and whoever
// keeps that queues the push again.
package jetstream
