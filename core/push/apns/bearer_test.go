package apns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func testSigner(t *testing.T) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{key: key, keyID: "K", team: "T"}
}

func TestP13_TokenIsTheSameOnEveryNode(t *testing.T) {
	s := testSigner(t)
	other := &signer{key: s.key, keyID: s.keyID, team: s.team}
	at := time.Unix(1_700_000_000, 0).Truncate(grid)
	one, err := s.sign(at)
	if err != nil {
		t.Fatal(err)
	}
	two, err := other.sign(at)
	if err != nil {
		t.Fatal(err)
	}
	if one != two {
		t.Error("two signatures of the same differ")
	}
	if next, _ := s.sign(at.Add(grid)); next == one {
		t.Error("the next half hour has the same token")
	}
}

func TestP13_FirstTokenStaysTwentyMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bearer{signer: testSigner(t)}
		time.Sleep(29 * time.Minute)
		at := func() string {
			token, err := b.at(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		first := at()
		time.Sleep(keepToken - time.Second)
		if at() != first {
			t.Error("token changed within 20 min")
		}
		if b.stale(time.Now()) {
			t.Error("a token of 49 min is stale")
		}
		time.Sleep(time.Second)
		second := at()
		if second == first {
			t.Error("token kept beyond 20 min though the grid moved on")
		}
		if strings.Count(second, ".") != 2 {
			t.Errorf("token %q", second)
		}
	})
}

func TestBearerOfAClockThatWasSet(t *testing.T) {
	b := bearer{signer: testSigner(t)}
	now := time.Now()
	if _, err := b.at(now); err != nil {
		t.Fatal(err)
	}
	// The wall clock moves and the monotonic one does not.
	b.iat = b.iat.Add(-65 * time.Minute)
	if !b.stale(now) {
		t.Error("set forward by 65 min: not stale")
	}
	b.iat = b.iat.Add(4 * time.Hour)
	if !b.stale(now) {
		t.Error("set back by hours: not stale")
	}
	b.held = now.Add(time.Minute)
	if b.stale(now) {
		t.Error("a held token is stale")
	}
}
