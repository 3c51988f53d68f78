//go:build !race

package apns_test

// slow is by how much the race detector slows this machine down.
const slow = 1
