package xmpp

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/test/process"
)

//go:embed prosody.cfg.lua
var prosodyConfig string

// StartProsody runs a Prosody until t ends.
func StartProsody(t testing.TB, cfg ServerConfig) *Server {
	t.Helper()
	path := process.Need(t, "prosody")
	s := newServer(t, "prosody", "/xmpp-websocket", cfg)
	process.MakeDir(t, s.file("data"))
	process.MakeDir(t, s.file("certs")) // which it looks into, empty
	config := s.write(t, "prosody.cfg.lua", prosodyConfig)
	for user, password := range s.cfg.Users {
		s.store(t, "accounts", user, prosodyAccount(password))
	}
	for user, friends := range friendsOf(s.cfg.Friends) {
		var roster strings.Builder
		for _, friend := range friends {
			fmt.Fprintf(&roster, "[%q] = { subscription = \"both\"; groups = {} };\n", s.JID(friend))
		}
		s.store(t, "roster", user, roster.String()+"[false] = { version = 1; pending = {} };\n")
	}
	s.spec = process.Spec{Name: "prosody", Path: path, Dir: s.dir, Args: []string{"-F", "--config", config}}
	s.ready = func() error {
		return errors.Join(listens(s.Plain), listens(s.TLS), listens("127.0.0.1:"+portOf(s.WS)), listens("127.0.0.1:"+portOf(s.WSS)))
	}
	s.Start(t)
	return s
}

// store writes one of Prosody's data files, as its internal storage has them.
func (s *Server) store(t testing.TB, kind, user, fields string) {
	t.Helper()
	dir := filepath.Join(s.dir, "data", prosodyName(s.Domain), kind)
	process.MakeDir(t, dir)
	process.WriteFile(t, filepath.Join(dir, prosodyName(user)+".dat"), "return {\n"+fields+"};\n")
}

// prosodyName is a name as its file system has it.
func prosodyName(s string) string {
	var out strings.Builder
	for _, b := range []byte(s) {
		if b >= 'a' && b <= 'z' || b >= '0' && b <= '9' {
			out.WriteByte(b)
		} else {
			fmt.Fprintf(&out, "%%%02x", b)
		}
	}
	return out.String()
}

// prosodyAccount is a password as SCRAM-SHA-1 keeps it (RFC 5802 §3).
func prosodyAccount(password string) string {
	const rounds = 4096
	salt := []byte(rand.Text())
	salted, err := pbkdf2.Key(sha1.New, password, salt, rounds, sha1.Size)
	if err != nil {
		panic(err) // only of parameters
	}
	mac := func(text string) []byte {
		m := hmac.New(sha1.New, salted)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := sha1.Sum(mac("Client Key"))
	return fmt.Sprintf("salt = %q;\niteration_count = %d;\nstored_key = %q;\nserver_key = %q;\n",
		salt, rounds, hex.EncodeToString(stored[:]), hex.EncodeToString(mac("Server Key")))
}

// friendsOf has each user's friends, both ways.
func friendsOf(pairs [][2]string) map[string][]string {
	all := make(map[string][]string)
	for _, p := range pairs {
		all[p[0]] = append(all[p[0]], p[1])
		all[p[1]] = append(all[p[1]], p[0])
	}
	return all
}
