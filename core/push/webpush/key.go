package webpush

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sallyport/core/push"
)

// keyEvery is how often the key file is looked at.
const keyEvery = 5 * time.Second

// maxKeyFile bounds what is read of a key file, in bytes. A key has some 240.
const maxKeyFile = 16 << 10

// vapidKey is the key that we are known by to push services (RFC 8292), and
// that browsers bind subscriptions to.
type vapidKey struct {
	private, public string // base64url without padding: the number, the uncompressed point
}

// GenerateKey makes a key and returns it as a file holds it, PKCS #8 in PEM,
// with its public half as an app hands it to the browser: the uncompressed point
// in base64url, applicationServerKey.
func GenerateKey() (text []byte, public string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("make the key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, "", fmt.Errorf("make the key: %w", err)
	}
	text = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	k, err := parseKey(text)
	if err != nil {
		return nil, "", err
	}
	return text, k.public, nil
}

// PublicKey reads a key file and returns the key's public half as [GenerateKey]
// does.
func PublicKey(path string) (string, error) {
	_, k, err := readKey(path)
	if err != nil {
		return "", err
	}
	return k.public, nil
}

func readKey(path string) ([]byte, *vapidKey, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
	k, err := parseKey(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, k, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path) // #nosec G304 -- the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

var errKey = errors.New("holds no P-256 key in PEM: make one with `sallyport push vapid`")

// parseKey takes PKCS #8, or SEC 1 as OpenSSL's ecparam writes it.
func parseKey(text []byte) (*vapidKey, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var parsed any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			parsed, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue // such as EC PARAMETERS
		}
		key, ok := parsed.(*ecdsa.PrivateKey)
		if err != nil || !ok || key.Curve != elliptic.P256() {
			return nil, errKey
		}
		private, err := key.Bytes()
		if err != nil {
			return nil, errKey
		}
		public, err := key.PublicKey.Bytes()
		if err != nil {
			return nil, errKey
		}
		return &vapidKey{
			private: base64.RawURLEncoding.EncodeToString(private),
			public:  base64.RawURLEncoding.EncodeToString(public),
		}, nil
	}
	return nil, errKey
}

// String keeps the key out of logs.
func (k *vapidKey) String() string { return "vapid key " + k.public }

// GoString is String for %#v.
func (k *vapidKey) GoString() string { return k.String() }

// VAPID is the public half of the key in use (RFC 8292 §3.2), in base64url
// without padding: what +sip.vapid carries (RFC 8599 §14) and browsers
// subscribe with.
func (c *Client) VAPID() string { return c.vapid().public }

func (c *Client) vapid() *vapidKey {
	c.keyMu.Lock()
	defer c.keyMu.Unlock()
	return c.key
}

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

// reload uses what the key file holds now. A file that cannot be read is told
// once, and the old key stays.
func (c *Client) reload() {
	text, err := readFile(c.cfg.KeyFile)
	if err == nil && bytes.Equal(text, c.text) {
		c.keyHealth.Set(nil)
		return
	}
	var key *vapidKey
	if err == nil {
		key, err = parseKey(text)
	}
	if err != nil {
		if c.keyHealth.Set(lostKey(fmt.Sprintf("vapid_key: %s: %v", c.cfg.KeyFile, err))) {
			c.log.Error("push key unreadable, the old one stays", "err", err)
		}
		return
	}
	c.keyHealth.Set(nil)
	c.text = text
	c.keyMu.Lock()
	c.key = key
	c.keyMu.Unlock()
	c.origins.rekeyed()
	c.log.Warn("push key loaded: browsers that subscribed with another one must subscribe again", "vapid", key.public)
}

// lostKey is the trouble of a key file that cannot be read any more.
func lostKey(text string) *push.Trouble {
	return &push.Trouble{
		Kind: push.TroubleConfig, Text: text,
		Remedy: "put the key back that browsers subscribed with: the core still uses it until it restarts",
	}
}
