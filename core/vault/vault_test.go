package vault_test

import (
	"bytes"
	"errors"
	"testing"

	"sallyport/core/vault"
)

func open(t *testing.T, keys ...[]byte) *vault.Vault {
	t.Helper()
	v, err := vault.New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSealedValuesOpenUnderTheirNameAlone(t *testing.T) {
	v := open(t, vault.NewKey())
	secret := []byte("00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0")
	sealed := v.Seal("alice", secret)
	if bytes.Contains(sealed, secret[:8]) {
		t.Fatal("the sealed value shows the plain one")
	}
	if len(sealed) != len(secret)+vault.Overhead {
		t.Errorf("%d octets over, want %d", len(sealed)-len(secret), vault.Overhead)
	}
	if bytes.Equal(sealed, v.Seal("alice", secret)) {
		t.Error("two seals of one value are alike: the store tells who has the same token")
	}
	plain, stale, err := v.Open("alice", sealed)
	if err != nil || stale || !bytes.Equal(plain, secret) {
		t.Errorf("opened %q, stale %v, %v", plain, stale, err)
	}
	if _, _, err := v.Open("bob", sealed); !errors.Is(err, vault.ErrForged) {
		t.Errorf("under another name: %v, want ErrForged", err)
	}
}

func TestDamagedValuesAreRefused(t *testing.T) {
	v := open(t, vault.NewKey())
	sealed := v.Seal("alice", []byte("token"))
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, _, err := v.Open("alice", bad); err == nil {
			t.Fatalf("opened with octet %d changed", i)
		}
		if _, _, err := v.Open("alice", sealed[:i]); !errors.Is(err, vault.ErrForged) {
			t.Fatalf("cut to %d octets: %v, want ErrForged", i, err)
		}
	}
}

func TestTwoKeysAreValidTheNewestSeals(t *testing.T) {
	first, second, third := vault.NewKey(), vault.NewKey(), vault.NewKey()
	old := open(t, first).Seal("alice", []byte("token"))
	both := open(t, second, first)
	plain, stale, err := both.Open("alice", old)
	if err != nil || !stale || string(plain) != "token" {
		t.Fatalf("with the old key below: %q, stale %v, %v", plain, stale, err)
	}
	if _, _, err := open(t, second).Open("alice", both.Seal("alice", plain)); err != nil {
		t.Errorf("sealed again, the old key is still needed: %v", err)
	}
	if _, _, err := open(t, third, second).Open("alice", old); !errors.Is(err, vault.ErrKey) {
		t.Errorf("without its key: %v, want ErrKey", err)
	}
}

func TestOnlyWholeKeysAreTaken(t *testing.T) {
	for name, keys := range map[string][][]byte{
		"none":  nil,
		"short": {make([]byte, 16)},
		"three": {vault.NewKey(), vault.NewKey(), vault.NewKey()},
	} {
		if _, err := vault.New(keys...); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
