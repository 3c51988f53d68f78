package ca

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// checkDNSName accepts host names of RFC 1123 §2.1, a single label too. What
// it accepts is safe as a file name.
func checkDNSName(name string) error {
	if name == "" || len(name) > 253 {
		return errors.New("must be a DNS name of 1 to 253 characters or an IP address")
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return errors.New("must be a DNS name or an IP address, without a port")
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
				return errors.New("must be a DNS name (letters, digits, hyphens, dots) or an IP address, without a port")
			}
		}
	}
	return nil
}

// writeNew creates a file that must not exist, 0600, and syncs it.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return fill(f, data)
}

// replace writes a file, 0600, whole or not at all, so that a service that
// watches it never reads half.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".issue-*") // 0600
	if err != nil {
		return err
	}
	if err := fill(f, data); err != nil {
		os.Remove(f.Name())
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		os.Remove(f.Name())
		return err
	}
	return nil
}

func fill(f *os.File, data []byte) error {
	_, err := f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
