//go:build !race

package tunnel_test

// slow is by how much the race detector stretches time limits.
const slow = 1
