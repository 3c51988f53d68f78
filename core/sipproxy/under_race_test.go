//go:build race

package sipproxy

// slow is by how much less is done under the race detector, which slows this
// machine down and ends the process where more than some 8,000 goroutines live.
const slow = 10
