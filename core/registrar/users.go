package registrar

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// algorithm is a digest algorithm of RFC 7616.
type algorithm string

const (
	sha256Alg algorithm = "SHA-256"
	md5Alg    algorithm = "MD5"
)

// algorithms are those offered, the preferred first (RFC 8760 §2.4).
var algorithms = []algorithm{sha256Alg, md5Alg}

// account is one user's HA1 by algorithm.
type account map[algorithm][]byte

// userKey names a user of a domain.
type userKey struct{ domain, user string }

// Users is the content of a users file. Its methods may be called from any
// goroutine, also while Watch replaces the content.
type Users struct {
	path string // static

	accounts atomic.Pointer[map[userKey]account]

	// Owned by Watch.
	stamp fs.FileInfo // of the content in force
}

// LoadUsers reads a users file: lines "USER:DOMAIN:ALGORITHM:HEX-HA1", blank
// lines and lines that start with "#". Errors name the file and the line.
func LoadUsers(path string) (*Users, error) {
	u := &Users{path: path}
	if err := u.load(); err != nil {
		return nil, err
	}
	return u, nil
}

func (u *Users) load() error {
	stamp, err := os.Stat(u.path)
	if err != nil {
		return fmt.Errorf("users file: %w", err)
	}
	data, err := os.ReadFile(u.path)
	if err != nil {
		return fmt.Errorf("users file: %w", err)
	}
	accounts, err := parseUsers(u.path, data)
	if err != nil {
		return err
	}
	u.stamp = stamp
	u.accounts.Store(&accounts)
	return nil
}

// Known reports whether the file has user in domain.
func (u *Users) Known(domain, user string) bool {
	return u.account(domain, user) != nil
}

func (u *Users) account(domain, user string) account {
	return (*u.accounts.Load())[userKey{strings.ToLower(domain), user}]
}

// watchEvery is how often Watch looks at the file.
const watchEvery = time.Second

// Watch takes over changes of the file until ctx ends. A change counts when
// two looks in a row saw the same, so that a file that is still being written
// takes no users away. A file that is gone, empty or malformed is logged once
// and the users known before stay.
func (u *Users) Watch(ctx context.Context, log *slog.Logger) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	seen, complaint := u.stamp, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		last := seen
		seen, _ = os.Stat(u.path) // nil where it cannot be seen: reload says why
		if same(seen, u.stamp) {
			complaint = ""
			continue
		}
		if !same(seen, last) {
			continue
		}
		err := u.reload(seen)
		switch {
		case err == nil:
			complaint = ""
			log.Info("users file loaded", "file", u.path, "users", len(*u.accounts.Load()))
		case err.Error() != complaint:
			complaint = err.Error()
			log.Error("users file not loaded, the users before stay", "err", err)
		}
	}
}

// reload is load but for an empty file, which is more often a write that
// failed than a wish to have no users.
func (u *Users) reload(seen fs.FileInfo) error {
	if seen != nil && seen.Size() == 0 {
		return fmt.Errorf("users file %s: empty; for no users at all, leave a comment in it", u.path)
	}
	return u.load()
}

// same reports whether two looks saw the same file with the same content, or
// both saw none.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func parseUsers(path string, data []byte) (map[userKey]account, error) {
	accounts := make(map[userKey]account)
	for i, line := range bytes.Split(data, []byte("\n")) {
		key, alg, ha1, err := parseLine(string(line))
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
		if ha1 == nil {
			continue
		}
		a := accounts[key]
		if a == nil {
			a = make(account)
			accounts[key] = a
		}
		if a[alg] != nil {
			return nil, fmt.Errorf("%s:%d: a second %s line for %s:%s; remove one", path, i+1, alg, key.user, key.domain)
		}
		a[alg] = ha1
	}
	return accounts, nil
}

var errLine = errors.New("want USER:DOMAIN:ALGORITHM:HEX; make lines with `sallyport users add`")

// parseLine reads one line; a nil ha1 without error is a blank or a comment.
func parseLine(line string) (key userKey, alg algorithm, ha1 []byte, err error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return key, "", nil, nil
	}
	f := strings.Split(line, ":")
	if len(f) != 4 {
		return key, "", nil, errLine
	}
	key = userKey{strings.ToLower(f[1]), f[0]}
	if err := checkName("user", key.user); err != nil {
		return key, "", nil, err
	}
	if err := checkName("domain", key.domain); err != nil {
		return key, "", nil, err
	}
	alg = algorithm(strings.ToUpper(f[2]))
	size := alg.size()
	if size == 0 {
		return key, "", nil, fmt.Errorf("algorithm %q: want SHA-256 or MD5", f[2])
	}
	ha1, err = hex.DecodeString(f[3])
	if err != nil || len(ha1) != size {
		return key, "", nil, fmt.Errorf("%s hash: want %d hex digits", alg, 2*size)
	}
	return key, alg, ha1, nil
}

// checkName refuses what would break a line, a realm or a SIP URI.
func checkName(what, s string) error {
	if s == "" {
		return fmt.Errorf("%s: empty", what)
	}
	if len(s) > 255 {
		return fmt.Errorf("%s: longer than 255 bytes", what)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`:@"\<>;?#`, r) }); i >= 0 {
		return fmt.Errorf("%s %q: character %q is not allowed", what, s, s[i])
	}
	return nil
}
