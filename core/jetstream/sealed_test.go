package jetstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"sallyport/core/jetstream"
	"sallyport/core/location"
	"sallyport/core/vault"
)

// life opens the store in dir for one life of a core, with or without a vault.
func life(t *testing.T, dir string, v *vault.Vault, f func(l *location.Location)) error {
	t.Helper()
	s, err := jetstream.Open(t.Context(), jetstream.Config{Dir: dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	l := location.New(location.Config{Vault: v}, s.Devices(), nil)
	if err := l.Load(t.Context()); err != nil {
		return err
	}
	f(l)
	return nil
}

func TestTheStoresFilesShowNoTokenOfAHundredDevices(t *testing.T) {
	dir := t.TempDir()
	v, err := vault.New(vault.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	err = life(t, dir, v, func(l *location.Location) {
		for i := range 100 {
			b, _ := registration(i)
			b.Contact = fmt.Sprintf("<sip:%d@10.0.0.1;pn-provider=apns;pn-prid=sekrit-voip-%d:voip&sekrit-alert-%d:remote;pn-auth=sekrit-auth-%d>", i, i, i, i)
			tokens := []location.Token{
				{Provider: "apns", Kind: "voip", App: "org.example.phone", Value: fmt.Sprintf("sekrit-voip-%d", i), Key: "sekrit-key", Auth: fmt.Sprintf("sekrit-auth-%d", i)},
				{Provider: "apns", Kind: "alert", App: "org.example.phone", Value: fmt.Sprintf("sekrit-alert-%d", i)},
			}
			if err := l.Bind(b, tokens, "split"); err != nil {
				t.Fatal(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("sekrit")) {
			t.Errorf("%s shows a token", path)
		}
		found = found || bytes.Contains(text, []byte("sip:user42@example.com"))
		return err
	})
	if err != nil || !found {
		t.Fatalf("the files were not read, or do not hold the devices: %v", err)
	}
	err = life(t, dir, v, func(l *location.Location) {
		b, _ := registration(42)
		if d, _ := l.Device(b.ID()); len(d.Tokens) != 2 || d.Tokens[0].Value != "sekrit-voip-42" || d.Tokens[0].Auth != "sekrit-auth-42" {
			t.Errorf("came back as %v", d.Tokens)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What a core says that cannot read its devices is true: without their
// directory it starts.
func TestWithoutTheirKeyTheDevicesCanBeRemoved(t *testing.T) {
	dir := t.TempDir()
	lost, err := vault.New(vault.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	found, err := vault.New(vault.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	b, tokens := registration(1)
	bind := func(l *location.Location) {
		if err := l.Bind(b, tokens, "split"); err != nil {
			t.Fatal(err)
		}
	}
	if err := life(t, dir, lost, bind); err != nil {
		t.Fatal(err)
	}
	if err := life(t, dir, found, bind); !errors.Is(err, vault.ErrKey) {
		t.Fatalf("%v, want ErrKey", err)
	}
	devices := filepath.Join(dir, "jetstream", "$G", "streams", "KV_sallyport_devices")
	if _, err := os.Stat(devices); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(devices); err != nil {
		t.Fatal(err)
	}
	if err := life(t, dir, found, bind); err != nil {
		t.Fatal(err)
	}
}
