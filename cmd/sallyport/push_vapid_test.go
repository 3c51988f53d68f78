package main

import (
	"crypto/ecdh"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPushVAPIDMakesAKeyOnceAndShowsItsPublicHalf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vapid.pem")
	code, out, errs := sallyport(t, "", "push", "vapid", "--out", path)
	if code != 0 {
		t.Fatal(errs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	public := lines[len(lines)-1]
	raw, err := base64.RawURLEncoding.DecodeString(public)
	if err != nil {
		t.Fatalf("the last line is %q: %v", public, err)
	}
	if _, err := ecdh.P256().NewPublicKey(raw); err != nil {
		t.Errorf("the public key is none: %v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "BEGIN PRIVATE KEY") {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v; want mode 0600", info, err)
	}
	if code, out, errs := sallyport(t, "", "push", "vapid", "--show", path); code != 0 || out != public+"\n" {
		t.Errorf("--show: %d, %q, %s; want %q", code, out, errs, public)
	}
	code, _, errs = sallyport(t, "", "push", "vapid", "--out", path)
	if again, _ := os.ReadFile(path); code == 0 || string(again) != string(text) || !strings.Contains(errs, "is there already") {
		t.Errorf("a second key: %d, %s", code, errs)
	}
}

func TestPushVAPIDSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	for args, want := range map[string]string{
		"":                             "--out FILE makes a key, --show FILE prints the public key",
		"--out a --show b":             "can't be used together",
		"--show " + dir + "/none":      "no such file",
		"--out " + dir + "/none/vapid": "no such file",
		"--show " + write(t, filepath.Join(dir, "text"), "no key"): "holds no P-256 key in PEM",
	} {
		code, _, errs := sallyport(t, "", append([]string{"push", "vapid"}, strings.Fields(args)...)...)
		if code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%q: %d %s; want %q", args, code, errs, want)
		}
	}
}

func TestCheckCoreLooksAtWebPush(t *testing.T) {
	_, corePEM := bundles(t)
	dir := t.TempDir()
	vapid := filepath.Join(dir, "vapid.pem")
	if code, _, errs := sallyport(t, "", "push", "vapid", "--out", vapid); code != 0 {
		t.Fatal(errs)
	}
	n := &fakeNet{dial: map[string]func() (net.Conn, error){
		"push.example.net:443": open, "inside.example:8443": open, "proxy.example:3128": open,
	}}
	for name, c := range map[string]struct{ push, app, want string }{
		"a good key":       {"", `vapid_key = "` + vapid + `"`, "ok    push.app webpush             org.example.web: the key is good"},
		"named services":   {"", `vapid_key = "` + vapid + "\"\nallow = [\".example.org\", \"push.example.net\", \"inside.example:8443\"]", "inside.example:8443 takes connections"},
		"one out of reach": {"", `vapid_key = "` + vapid + "\"\nallow = [\"down.example.net\"]", "FAIL  push.app webpush             down.example.net:443 cannot be reached"},
		"a proxy":          {`proxy = "http://proxy.example:3128"`, `vapid_key = "` + vapid + `"`, "proxy.example:3128 takes connections"},
		"no key":           {"", `vapid_key = "` + dir + `/none"`, "-> make the key with `sallyport push vapid --out FILE`"},
	} {
		config := write(t, filepath.Join(dir, "core.toml"), fmt.Sprintf(`
[tunnel]
edges = ["edge1.example.com:7443"]
identity = %q
[sip]
listen = ["tcp:10.0.0.5:5060"]
[[sip.domain]]
name = "example.com"
upstream = "sip:10.0.0.1:5060"
[push]
%s
[[push.app]]
id = "org.example.web"
provider = "webpush"
subject = "mailto:ops@example.com"
%s
[store]
dir = %q
`, corePEM, c.push, c.app, dir))
		if out, _ := checkOutput(t, n, func(k *checker) { k.core(config) }); !strings.Contains(out, c.want) {
			t.Errorf("%s: want %q in\n%s", name, c.want, out)
		}
	}
}
