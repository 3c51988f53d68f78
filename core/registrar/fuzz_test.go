package registrar

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// FuzzUsers: a users file is refused with its name and line, or read into
// accounts that, written out again, read the same.
func FuzzUsers(f *testing.F) {
	md5, sha := strings.Repeat("0f", 16), strings.Repeat("0f", 32)
	f.Add("alice:demo.example:MD5:" + md5 + "\nalice:demo.example:SHA-256:" + sha + "\n")
	f.Add("# none\n\n \t\r\n")
	f.Add("Alice:DEMO.example:sha-256:" + strings.ToUpper(sha))
	f.Add("a:b:c:d:e")
	f.Fuzz(func(t *testing.T, file string) {
		accounts, err := parseUsers("users", []byte(file))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "users:") {
				t.Fatalf("an error without its place: %v", err)
			}
			return
		}
		var again strings.Builder
		for key, a := range accounts {
			for alg, ha1 := range a {
				fmt.Fprintf(&again, "%s:%s:%s:%s\n", key.user, key.domain, alg, hex.EncodeToString(ha1))
			}
		}
		same, err := parseUsers("users", []byte(again.String()))
		if err != nil || fmt.Sprint(same) != fmt.Sprint(accounts) {
			t.Fatalf("%v, %v\nbecomes %v", err, accounts, same)
		}
	})
}
