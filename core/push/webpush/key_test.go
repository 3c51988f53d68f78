package webpush_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"

	"sallyport/core/push/webpush"
)

func TestKeysAreReadAsOthersWriteThem(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	want := base64.RawURLEncoding.EncodeToString(point)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		good bool
	}{
		"PKCS #8":                   {block("PRIVATE KEY", pkcs8), true},
		"SEC 1, as ecparam does it": {block("EC PARAMETERS", []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}) + block("EC PRIVATE KEY", sec1), true},
		"another curve":             {block("PRIVATE KEY", p384), false},
		"a public key":              {block("PUBLIC KEY", point), false},
		"no PEM":                    {want, false},
		"nothing":                   {"", false},
		"a key behind 16 KiB":       {strings.Repeat("#\n", 9000) + block("PRIVATE KEY", pkcs8), false},
	} {
		got, err := webpush.PublicKey(write(t, "key", []byte(c.text)))
		switch {
		case c.good && (err != nil || got != want):
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		case !c.good && (err == nil || !strings.Contains(err.Error(), "sallyport push vapid")):
			t.Errorf("%s: %q, %v; want the remedy", name, got, err)
		}
	}
	if _, err := webpush.PublicKey("/nonexistent/vapid.pem"); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

func TestGeneratedKeysDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		text, public, err := webpush.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		point, err := base64.RawURLEncoding.DecodeString(public)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ecdh.P256().NewPublicKey(point); err != nil || seen[public] {
			t.Errorf("public key %q: %v, seen %v", public, err, seen[public])
		}
		if again, err := webpush.PublicKey(write(t, "key", text)); err != nil || again != public {
			t.Errorf("read again: %q, %v; want %q", again, err, public)
		}
		seen[public] = true
	}
}

// Each fault of the configuration is named, with what to do about it.
func TestNewNamesEachFault(t *testing.T) {
	good := webpush.Config{App: app, KeyFile: newKeyFile(t), Subject: "mailto:ops@example.com"}
	for name, c := range map[string]struct {
		change func(*webpush.Config)
		want   string
	}{
		"no key":          {func(c *webpush.Config) { c.KeyFile = "" }, "vapid_key: must name the key file: make one with `sallyport push vapid`"},
		"an absent key":   {func(c *webpush.Config) { c.KeyFile = "/nonexistent/k" }, "vapid_key: open /nonexistent/k"},
		"no subject":      {func(c *webpush.Config) { c.Subject = "" }, "subject: must be a mailto: or https: URL"},
		"a bare address":  {func(c *webpush.Config) { c.Subject = "ops@example.com" }, "subject: must be a mailto:"},
		"mailto nobody":   {func(c *webpush.Config) { c.Subject = "mailto:" }, "subject: must be a mailto:"},
		"http":            {func(c *webpush.Config) { c.Subject = "http://example.com" }, "subject: must be a mailto:"},
		"a URL in allow":  {func(c *webpush.Config) { c.Allow = []string{"https://a.example"} }, `allow: "https://a.example" must be HOST, HOST:PORT or .SUFFIX`},
		"no CA":           {func(c *webpush.Config) { c.CAFile = "/nonexistent/ca" }, "ca_file: open /nonexistent/ca"},
		"an empty CA":     {func(c *webpush.Config) { c.CAFile = write(t, "ca", nil) }, "holds no certificate in PEM"},
		"a SOCKS proxy":   {func(c *webpush.Config) { c.Proxy = "socks5://u:secret@p:1" }, "push.proxy: must be http://HOST:PORT"},
		"a bad exception": {func(c *webpush.Config) { c.Proxy, c.NoProxy = "http://p:1", []string{"a/b"} }, "push.no_proxy"},
	} {
		cfg := good
		c.change(&cfg)
		_, err := webpush.New(cfg, nil, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	both := webpush.Config{App: app}
	if _, err := webpush.New(both, nil, nil); err == nil || !strings.Contains(err.Error(), "vapid_key") || !strings.Contains(err.Error(), "subject") {
		t.Errorf("two faults at once: %v", err)
	}
	good.Subject = "https://example.com/contact"
	if _, err := webpush.New(good, nil, nil); err != nil {
		t.Errorf("an https subject: %v", err)
	}
}
