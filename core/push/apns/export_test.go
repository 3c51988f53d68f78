package apns

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// Reasons are Apple's that have a verdict of their own.
func Reasons() []string { return slices.Sorted(maps.Keys(reasons)) }

// SignForBenchmark signs a provider token of the half hour with the text of a
// .p8 file.
func SignForBenchmark(p8 []byte, keyID, team string) (string, error) {
	key, err := parseKey(p8)
	if err != nil {
		return "", err
	}
	s := &signer{key: key, keyID: keyID, team: team}
	return s.sign(time.Now().Truncate(grid))
}

// ReadWhole reads an answer as apns2 gets it.
func ReadWhole(r *http.Response) error { return readWhole(r) }
