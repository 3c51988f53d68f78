package registrar

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// AddUser sets user's password in the users file at path, which is created
// with mode 0600 when missing. One trailing newline of the password is
// dropped. The user's lines are replaced, others and comments stay, and the
// file changes as a whole or not at all.
func AddUser(path, domain, user, password string) error {
	domain = strings.ToLower(domain)
	if err := checkName("user", user); err != nil {
		return err
	}
	if err := checkName("domain", domain); err != nil {
		return err
	}
	if p, ok := strings.CutSuffix(password, "\n"); ok {
		password = strings.TrimSuffix(p, "\r")
	}
	if password == "" {
		return errors.New("password: empty")
	}
	old, info, err := readOld(path)
	if err != nil {
		return err
	}
	if _, err := parseUsers(path, old); err != nil {
		return err
	}
	return replaceFile(path, edit(old, userKey{domain, user}, password), info)
}

// readOld returns a nil info where there is no file yet.
func readOld(path string) ([]byte, fs.FileInfo, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("users file: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("users file: %w", err)
	}
	return data, info, nil
}

// edit puts the user's new lines where the old ones began, or at the end.
func edit(old []byte, key userKey, password string) []byte {
	var out bytes.Buffer
	written := false
	write := func() {
		for _, alg := range algorithms {
			ha1 := alg.sum(key.user + ":" + key.domain + ":" + password)
			fmt.Fprintf(&out, "%s:%s:%s:%s\n", key.user, key.domain, alg, hex.EncodeToString(ha1))
		}
		written = true
	}
	for line := range bytes.Lines(old) {
		if k, _, ha1, _ := parseLine(string(line)); ha1 != nil && k == key {
			if !written {
				write()
			}
			continue
		}
		out.Write(line)
		if line[len(line)-1] != '\n' {
			out.WriteByte('\n')
		}
	}
	if !written {
		write()
	}
	return out.Bytes()
}

// replaceFile writes a file beside path and renames it over path. Mode and
// owner stay those of old, if there is one. A link stays a link: what it
// points to is replaced.
func replaceFile(path string, data []byte, old fs.FileInfo) (err error) {
	if real, e := filepath.EvalSymlinks(path); e == nil {
		path = real
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("users file: %w", err)
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
			err = fmt.Errorf("users file %s: %w", path, err)
		}
	}()
	if old != nil {
		if err = tmp.Chmod(old.Mode().Perm()); err != nil {
			return err
		}
		if err = keepOwner(tmp, old); err != nil {
			return fmt.Errorf("keep its owner (run as the owner or root): %w", err)
		}
	}
	if _, err = tmp.Write(data); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
