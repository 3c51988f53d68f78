package certs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/certs"
	"sallyport/certs/ca"
)

func TestRootsAreReadAgainWhenTheirFileChangesAndABrokenOneChangesNothing(t *testing.T) {
	one, other := filepath.Join(newCA(t), ca.CertFile), filepath.Join(newCA(t), ca.CertFile)
	file := filepath.Join(t.TempDir(), "roots.pem")
	put := func(from string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(one)
	r, err := certs.LoadRoots(file)
	if err != nil {
		t.Fatal(err)
	}
	first := r.Pool()
	put(other)
	if err := r.Reload(); err != nil || r.Pool().Equal(first) {
		t.Errorf("not read again: %v", err)
	}
	second := r.Pool()
	if err := os.WriteFile(file, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err == nil || !strings.Contains(err.Error(), file) || !r.Pool().Equal(second) {
		t.Errorf("a broken file: %v", err)
	}
	if _, err := certs.LoadRoots(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing file is taken")
	}
}

func TestRootsAreWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "roots.pem")
		put := func(version int) {
			text, err := os.ReadFile(filepath.Join(newCA(t), ca.CertFile))
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, file, text, version)
		}
		put(1)
		r, err := certs.LoadRoots(file)
		if err != nil {
			t.Fatal(err)
		}
		first := r.Pool()
		j, stop := watching(t, r.Watch)
		defer stop()
		time.Sleep(pollHalf)
		put(2)
		time.Sleep(time.Second)
		if log := j.take(); r.Pool().Equal(first) || !strings.Contains(log, "CAs reloaded") {
			t.Errorf("not read again; log %q", log)
		}
	})
}
