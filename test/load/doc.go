// Package load measures the whole system: how long a sleeping phone's call
// takes inside Sallyport, what a registered flow costs. It drives a town of
// test/e2e; figures and how they were taken stand in docs/benchmarks.md.
package load
