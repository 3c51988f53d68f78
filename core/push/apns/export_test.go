package apns

import (
	"maps"
	"slices"
	"time"
)

// Reasons are Apple's that have a verdict of their own.
func Reasons() []string { return slices.Sorted(maps.Keys(reasons)) }

// SignForBenchmark returns a function that signs a provider token.
func SignForBenchmark(path string) (func(), error) {
	_, key, err := readP8(path)
	if err != nil {
		return nil, err
	}
	s := &signer{key: key, keyID: "K", team: "T"}
	at := time.Unix(0, 0)
	return func() { _, _ = s.sign(at) }, nil
}
