package registrar

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// A nonce holds the time on the wall, since any core must be able to read it.
// When that clock is set, clients are asked once more, and no more than once.

func TestANonceOfBeforeTheClockWasSetIsStaleAndTheNextOneGood(t *testing.T) {
	r := town(t)
	keys := [][]byte{(*r.keys.Load())[0]}
	for _, set := range []time.Duration{6 * time.Hour, -6 * time.Hour} {
		before := newNonce(keys[0], "demo.example", time.Now().Add(-set))
		c := alice(r.Challenge(false)[0])
		c.nonce = before
		if err := c.verify(r); !errors.Is(err, ErrStale) {
			t.Errorf("set by %v: %v, want a stale nonce", set, err)
		}
		if err := alice(r.Challenge(true)[0]).verify(r); err != nil {
			t.Errorf("set by %v: %v", set, err)
		}
	}
}

// The memory of nonces was full, so that it has a floor, when the clock was
// set back: what is under it now are the nonces of the next six hours.
func TestAFullMemoryOfNoncesLetsClientsInAfterTheClockWasSetBack(t *testing.T) {
	var c counts
	now := time.Now()
	for i := range maxNonces + 1 {
		made := now.Add(time.Duration(i) * time.Millisecond)
		if !c.use(fmt.Sprint(i), made, 1, made) {
			t.Fatalf("nonce %d is refused", i)
		}
	}
	back := now.Add(-6 * time.Hour)
	if c.use("asked before", back, 1, back) {
		t.Error("one that may have been used is taken again")
	}
	if !c.use("asked now", back.Add(time.Second), 1, back.Add(2*time.Second)) {
		t.Error("nobody can register for six hours")
	}
	if c.use("asked now", back.Add(time.Second), 1, back.Add(3*time.Second)) {
		t.Error("captured credentials are taken")
	}
}
