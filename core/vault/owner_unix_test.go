//go:build unix

package vault_test

import (
	"os"
	"strings"
	"testing"

	"sallyport/core/vault"
)

func TestAKeyFileOfAStrangerIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	path := keyFile(t, b64(vault.NewKey()), 0o600)
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := vault.Load(path); err == nil || !strings.Contains(err.Error(), "uid 65534") || !strings.Contains(err.Error(), "chown") {
		t.Errorf("%v", err)
	}
}
