package interop

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bundle is JsSIP, what it needs and page.js as one script: the text of each
// module, handed to loader.js.
func bundle(t testing.TB) string {
	t.Helper()
	needModule(t, "jssip", "jssip")
	files := map[string]string{}
	take := func(path string, _ fs.DirEntry, err error) error {
		name := filepath.ToSlash(strings.TrimPrefix(path, "jssip"+string(filepath.Separator)))
		if ext := filepath.Ext(path); err != nil || ext != ".js" && filepath.Base(path) != "package.json" || strings.HasPrefix(name, "node_modules/ws/") {
			return err
		}
		text, err := os.ReadFile(path)
		files[name] = string(text)
		return err
	}
	loader, err := os.ReadFile(filepath.Join("jssip", "loader.js"))
	if err == nil {
		err = filepath.WalkDir("jssip", take)
	}
	text, errText := json.Marshal(files)
	if err != nil || errText != nil {
		t.Fatal(err, errText)
	}
	return string(loader) + "(" + string(text) + `, "page.js");`
}

// servePage serves the page over HTTPS with the edge's certificate until t
// ends, and returns its URL and the key that a browser must be told to trust.
func (s *System) servePage() (url, trusted string) {
	s.t.Helper()
	script := bundle(s.t)
	pair, err := tls.LoadX509KeyPair(s.public, s.public)
	if err != nil {
		s.t.Fatal(err)
	}
	pages := http.NewServeMux()
	pages.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(`<!doctype html><title>phone</title><link rel="icon" href="data:,"><script src="phone.js"></script>`))
	})
	pages.HandleFunc("GET /phone.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write([]byte(script))
	})
	server := httptest.NewUnstartedServer(pages)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	s.t.Cleanup(server.Close)
	key := sha256.Sum256(pair.Leaf.RawSubjectPublicKeyInfo)
	return server.URL + "/", base64.StdEncoding.EncodeToString(key[:])
}
