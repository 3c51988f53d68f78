//go:build !race

package jetstream_test

import "time"

// callLimit is how long 99 of 100 calls may take (P18).
const callLimit = 50 * time.Millisecond

// crowd is how many notes are queued beside the calls.
const crowd = 10_000

// callsMade is how many calls there are.
const callsMade = 200
