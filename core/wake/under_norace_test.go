//go:build !race

package wake_test

// slow is by how much the race detector slows this machine down.
const slow = 1
