package apns

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"fmt"
	"os"
	"time"
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

// Rekey changes to another key of the team, whose id is keyID and which is in
// the key file now. Pushes under way end with the old key, which Apple honours
// beside the new one.
func (c *Client) Rekey(keyID string) error {
	c.keyMu.Lock()
	defer c.keyMu.Unlock()
	s, text, err := c.readKey(keyID)
	if err != nil {
		return err
	}
	c.keyID, c.key = keyID, text
	c.use(s)
	return nil
}

// reload reports whether the key file holds another key than before. A file
// that cannot be read is told once, and the old key stays.
func (c *Client) reload() bool {
	c.keyMu.Lock()
	defer c.keyMu.Unlock()
	s, text, err := c.readKey(c.keyID)
	if err != nil {
		if c.health.Set(err.Error()) {
			c.log.Error("push key unreadable, the old one stays", "err", err)
		}
		return false
	}
	if bytes.Equal(text, c.key) {
		return false
	}
	c.key = text
	c.use(s)
	return true
}

// use lets each lane begin a connection with s. Guarded by keyMu.
func (c *Client) use(s *signer) {
	for _, e := range c.endpoints {
		e.breaker.Reset()
		e.calls.rekey(s)
		e.notes.rekey(s)
	}
	c.health.Set("")
	c.log.Info("push key loaded", "key_id", s.keyID)
}

// readKey reads the key file, which is small or not a key.
func (c *Client) readKey(keyID string) (*signer, []byte, error) {
	text, key, err := readP8(c.cfg.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("push app %q: key_file: %w", c.cfg.BundleID, err)
	}
	return &signer{key: key, keyID: keyID, team: c.cfg.TeamID}, text, nil
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
