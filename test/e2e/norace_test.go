//go:build !race

package e2e

// slow is by how much the race detector slows this machine down.
const slow = 1
