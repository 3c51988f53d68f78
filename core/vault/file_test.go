package vault_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/core/vault"
)

func keyFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func b64(k []byte) string { return base64.StdEncoding.EncodeToString(k) }

func TestAMissingKeyFileIsMadeForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key")
	v, made, err := vault.LoadOrMake(path)
	if err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(path + ".*"); left != nil {
		t.Errorf("left behind: %v", left)
	}
	again, made, err := vault.LoadOrMake(path)
	if err != nil || made {
		t.Fatalf("the second time made %v, %v", made, err)
	}
	if _, _, err := again.Open("a", v.Seal("a", []byte("x"))); err != nil {
		t.Errorf("another key after a restart: %v", err)
	}
}

func TestKeyFilesInEitherNotation(t *testing.T) {
	k, old := vault.NewKey(), vault.NewKey()
	sealed := open(t, k).Seal("a", []byte("x"))
	for name, text := range map[string]string{
		"openssl rand -base64 32": b64(k) + "\n",
		"openssl rand -hex 32":    hex.EncodeToString(k) + "\n",
		"base64url, no padding":   base64.RawURLEncoding.EncodeToString(k),
		"two keys, words, CRLF":   "# new\r\n" + b64(k) + "\r\n\r\n# old\r\n" + b64(old) + "\r\n",
	} {
		v, err := vault.Load(keyFile(t, text, 0o440))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, stale, err := v.Open("a", sealed); err != nil || stale {
			t.Errorf("%s: stale %v, %v", name, stale, err)
		}
	}
}

func TestBadKeyFilesAreNamedWithTheirRemedy(t *testing.T) {
	k := b64(vault.NewKey())
	slip := k[:20] + "!" + k[20:]
	for name, c := range map[string]struct {
		path string
		want []string
	}{
		"missing":       {filepath.Join(t.TempDir(), "none"), []string{"none", "openssl rand"}},
		"a directory":   {t.TempDir(), []string{"not a regular file"}},
		"others read":   {keyFile(t, k, 0o604), []string{"0604", "chmod 600"}},
		"group writes":  {keyFile(t, k, 0o660), []string{"0660", "chmod 600"}},
		"empty":         {keyFile(t, "# nothing\n", 0o600), []string{"no key", "openssl rand"}},
		"a slip":        {keyFile(t, k+"\n"+slip+"\n", 0o600), []string{"line 2", "openssl rand"}},
		"three keys":    {keyFile(t, strings.Repeat(k+"\n", 3), 0o600), []string{"3 keys", "remove the oldest"}},
		"the same key":  {keyFile(t, k+"\n"+k+"\n", 0o600), []string{"twice"}},
		"another thing": {keyFile(t, strings.Repeat("#\n", 3000), 0o600), []string{"longer than"}},
	} {
		_, err := vault.Load(c.path)
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		for _, w := range append(c.want, c.path) {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q lacks %q", name, err, w)
			}
		}
		if strings.Contains(err.Error(), k[:12]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
	if _, err := vault.Load("/nonexistent/token.key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	if _, _, err := vault.LoadOrMake("/nonexistent/token.key"); err == nil || !strings.Contains(err.Error(), "cannot be made") {
		t.Errorf("made in no directory: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	v, err := vault.New(bytes.Repeat([]byte{1}, vault.KeySize))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(v.Seal("a", []byte("x")))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if _, _, err := v.Open("b", sealed); err == nil {
			t.Error("opened under another name")
		}
	})
}
