package apns

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport/core/push"
)

// keyEvery is how often the key file is looked at. A key that Apple refuses
// is looked at at once.
const keyEvery = 5 * time.Second

// Run reads the key file again when it changes, until ctx ends; then it
// closes all connections, and Send sends no more.
func (c *Client) Run(ctx context.Context) error {
	defer c.Close()
	tick := time.NewTicker(keyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			c.reload()
		}
	}
}

// Close closes all connections once the pushes under way have ended. Send
// sends no more. It may be called without Run, and more than once.
func (c *Client) Close() {
	for _, e := range c.endpoints {
		e.calls.close()
		e.notes.close()
	}
}

// key is what the key file held.
type key struct {
	file   string // of the key itself, links resolved
	text   []byte
	signer *signer
}

// reload reports whether the key file holds another key than before. A file
// that cannot be read is told once, and the old key stays. Pushes under way end
// with the old key, which Apple honours beside the new one.
func (c *Client) reload() bool {
	c.keyMu.Lock()
	defer c.keyMu.Unlock()
	k, err := c.readKey()
	if err != nil {
		if c.file.Set(&push.Trouble{Kind: push.TroubleAuth, Text: err.Error(), Remedy: "the old key is used until the file is right"}) {
			c.log.Error("push key unreadable, the old one stays", "err", err)
		}
		return false
	}
	c.file.Set(nil)
	if k.signer.keyID == c.key.signer.keyID && bytes.Equal(k.text, c.key.text) {
		return false
	}
	c.key = k
	for _, e := range c.endpoints {
		e.breaker.Reset()
		e.calls.rekey(k.signer)
		e.notes.rekey(k.signer)
	}
	c.state.Set(nil)
	c.log.Info("push key loaded", "key_id", k.signer.keyID, "file", k.file)
	return true
}

// readKey reads the key file, which is small or not a key. The file is the one
// that a link leads to now, and so is the name: no key is read under the id of
// another.
func (c *Client) readKey() (key, error) {
	fail := func(err error) (key, error) {
		return key{}, fmt.Errorf("push app %q: key_file: %w", c.cfg.BundleID, err)
	}
	file, err := filepath.EvalSymlinks(c.cfg.KeyFile)
	if err != nil {
		return fail(err)
	}
	text, private, err := readP8(file)
	if err != nil {
		return fail(err)
	}
	id := c.cfg.KeyID
	if id == "" {
		id = keyIDOf(file)
	}
	if id == "" {
		return key{}, fmt.Errorf("push app %q: key_id: must be the ten characters of the key's id, as %s is not named AuthKey_KEYID.p8", c.cfg.BundleID, file)
	}
	return key{file: file, text: text, signer: &signer{key: private, keyID: id, team: c.cfg.TeamID}}, nil
}

// keyIDOf is the id of the key in a file that has the name Apple gave it,
// AuthKey_KEYID.p8, or "".
func keyIDOf(file string) string {
	id, apples := strings.CutPrefix(filepath.Base(file), "AuthKey_")
	id, p8 := strings.CutSuffix(id, ".p8")
	if !apples || !p8 || strings.ContainsFunc(id, func(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'Z') }) {
		return ""
	}
	return id
}

func readP8(path string) ([]byte, *ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, key, nil
}
