//go:build !race

package sipproxy

// slow is by how much the race detector slows this machine down.
const slow = 1
