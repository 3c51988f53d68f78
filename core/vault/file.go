package vault

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxFile bounds a key file: two keys and some words about them.
const maxFile = 4 << 10

// howToMake is the remedy where there is no usable key.
const howToMake = "make one with `openssl rand -base64 32`, in a file that only this service's user can read"

// Load reads a key file: one key a line, the newest first, at most two; each is
// 32 octets in base64 or hex. Empty lines and those that begin with "#" say
// nothing. Others must not be able to read or change the file, nor its group to
// change it, and it belongs to this process's user or to root. Errors name the
// file and the remedy; [fs.ErrNotExist] is among them.
func Load(path string) (*Vault, error) {
	text, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	v, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return v, nil
}

// LoadOrMake is Load, and makes the file with a new key where there is none:
// only for a directory that no other process uses, since two might each make
// a key. It reports whether it did.
func LoadOrMake(path string) (v *Vault, made bool, err error) {
	v, err = Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return v, false, err
	}
	if err := write(path, NewKey()); err != nil {
		return nil, false, fmt.Errorf("key file %s: cannot be made: %w", path, cause(err))
	}
	v, err = Load(path)
	return v, err == nil, err
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", cause(err), howToMake)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w: give it to the user that runs the core (uid %d)", cause(err), os.Geteuid())
	}
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("is not a regular file: %s", howToMake)
	}
	if err := checkAccess(info); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("is longer than %d bytes: it holds at most two keys, a line each", maxFile)
	}
	return text, nil
}

// parse never says what stands in a line: it may be a key with a slip in it.
func parse(text []byte) (*Vault, error) {
	var keys [][]byte
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		k, ok := decode(line)
		if !ok {
			return nil, fmt.Errorf("line %d is not %d octets in base64 or hex: %s", i+1, KeySize, howToMake)
		}
		keys = append(keys, k)
	}
	switch {
	case len(keys) == 0:
		return nil, fmt.Errorf("holds no key: %s", howToMake)
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("holds %d keys, at most %d are valid, the newest first: remove the oldest", len(keys), maxKeys)
	case len(keys) == 2 && bytes.Equal(keys[0], keys[1]):
		return nil, errors.New("holds the same key twice: the new one stands above the old one")
	}
	return New(keys...)
}

func decode(line string) ([]byte, bool) {
	if k, err := hex.DecodeString(line); err == nil && len(k) == KeySize {
		return k, true
	}
	line = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(line, "="))
	k, err := base64.RawStdEncoding.DecodeString(line)
	return k, err == nil && len(k) == KeySize
}

// write makes the file whole or not at all, and on the disk before it returns:
// what is sealed with a key that a power cut takes away is lost.
func write(path string, k []byte) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	_, err = fmt.Fprintf(tmp, "# Encrypts push tokens at rest. Keep a copy where the store's copies are not.\n"+
		"# For a new key put it on a line above; the old one may go when the core has run with both.\n%s\n",
		base64.StdEncoding.EncodeToString(k))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// cause drops the path from a file error: the message names it already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
