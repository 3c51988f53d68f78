//go:build race

package jetstream_test

import "time"

// callLimit is how long 99 of 100 calls may take; the race detector takes its
// part of it.
const callLimit = 500 * time.Millisecond

// crowd is how many notes are queued beside the calls.
const crowd = 5_000

// callsMade is how many calls there are.
const callsMade = 50
