// Package arch holds the house rules as tests: which room may enter which, one
// package comment each, files that fit a reader's head, and what the binaries
// must never contain. It owns no code that runs outside tests; the table in
// docs/architecture.md is the same table for readers.
package arch
