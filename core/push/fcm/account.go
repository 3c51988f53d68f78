package fcm

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"sync"
	"time"

	"golang.org/x/oauth2/google"
	"golang.org/x/oauth2/jwt"

	"sallyport/core/push"
)

const (
	// scope is all that an access token of ours may be used for.
	scope = "https://www.googleapis.com/auth/firebase.messaging"
	// maxAccount bounds the file of a service account. Google's have 2.4 kB.
	maxAccount = 64 << 10
	// fileEvery is how often the file is looked at. After an answer that speaks
	// against the account it is looked at at once.
	fileEvery = 5 * time.Second
)

// account is a service account: who we are at Google. It is not changed.
type account struct {
	jwt     *jwt.Config
	project string
}

// readAccount reads the file that the Google Cloud console makes.
func readAccount(path string) (*account, []byte, error) {
	text, err := readText(path)
	if err != nil {
		return nil, nil, err
	}
	a, err := parseAccount(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return a, text, nil
}

// readText reads a byte more than a service account may have, and no further.
func readText(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxAccount+1))
}

// parseAccount never repeats what the file holds in an error.
func parseAccount(text []byte) (*account, error) {
	var file struct {
		Type       string `json:"type"`
		Project    string `json:"project_id"`
		PrivateKey string `json:"private_key"`
		Email      string `json:"client_email"`
		TokenURI   string `json:"token_uri"`
	}
	switch err := json.Unmarshal(text, &file); {
	case len(text) > maxAccount:
		return nil, fmt.Errorf("longer than %d bytes, and so no service account", maxAccount)
	case err != nil:
		return nil, errors.New("not JSON: download the key of a service account from the Google Cloud console")
	case file.Type != "service_account":
		return nil, fmt.Errorf("type is %q, must be \"service_account\": a google-services.json or a user's credentials do not do", clip(file.Type))
	case file.Email == "":
		return nil, errors.New("client_email is missing")
	case !isProject(file.Project):
		return nil, errors.New("project_id is missing or not a project's id")
	}
	if err := checkKey(file.PrivateKey); err != nil {
		return nil, fmt.Errorf("private_key: %w", err)
	}
	cfg, err := google.JWTConfigFromJSON(text, scope)
	if err != nil {
		return nil, errors.New("not a service account's key")
	}
	if u, err := url.Parse(cfg.TokenURL); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("token_uri must be https://HOST/…")
	}
	return &account{jwt: cfg, project: file.Project}, nil
}

func checkKey(text string) error {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return errors.New("not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	if _, ok := key.(*rsa.PrivateKey); !ok || err != nil {
		return errors.New("not an RSA key")
	}
	return nil
}

// isProject reports whether s can be a project's id or number, which is a part
// of a path.
func isProject(s string) bool {
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '.', r == ':':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 100 && s != "." && s != ".."
}

// Run fetches access tokens before they are needed and reads the service
// account again when its file changes, until ctx ends; then it closes all
// connections, and Send sends no more.
func (c *Client) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	wg.Go(func() { c.keeper.run(ctx) })
	tick := time.NewTicker(fileEvery)
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

// Close ends the fetch that is under way, and closes all connections once the
// pushes under way have ended. Send sends no more. It may be called without
// Run, and more than once.
func (c *Client) Close() {
	c.end()
	c.keeper.close()
	c.calls.close()
	c.notes.close()
}

// reload takes over the service account if its file has changed. A file that
// cannot be read is told once, and the old account stays.
func (c *Client) reload() {
	c.fileMu.Lock()
	defer c.fileMu.Unlock()
	if text, err := readText(c.cfg.ServiceAccount); err == nil && bytes.Equal(text, c.text) {
		c.file.Set(nil)
		return
	}
	a, text, err := readAccount(c.cfg.ServiceAccount)
	if err == nil && c.cfg.Project == "" && a.project != c.project {
		err = fmt.Errorf("%s is of project %s now, not %s: restart to change the project", c.cfg.ServiceAccount, a.project, c.project)
	}
	if err != nil {
		if c.file.Set(&push.Trouble{Kind: push.TroubleConfig, Text: "service_account: " + err.Error(), Remedy: "the account read before stays in use"}) {
			c.log.Error("service account unreadable, the old one stays", "err", err)
		}
		return
	}
	c.file.Set(nil)
	c.text = text
	c.keeper.use(a)
	c.breaker.Reset()
	c.sending.Set(nil)
	c.log.Info("service account loaded", "account", a.jwt.Email)
}

func clip(s string) string { return s[:min(len(s), 40)] }
