package registrar

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func usersFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if content != "" {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAddUserMakesTheFileForItsOwnerAlone(t *testing.T) {
	path := usersFile(t, "")
	if err := AddUser(path, "Demo.Example", "alice", "secret\n"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// What sha256sum and md5sum make of "alice:demo.example:secret".
	const want = "alice:demo.example:SHA-256:e1cd1818b63d24f2960c02e10e230b612a0b9264b943a080d62047ff704e9773\nalice:demo.example:MD5:ceefd9fe1d400861932ae0a4f21d3b30\n"
	if got := read(t, path); got != want {
		t.Errorf("file:\n%s", got)
	}
	u, err := LoadUsers(path)
	if err != nil {
		t.Fatal(err)
	}
	if !u.Known("demo.example", "alice") || !u.Known("DEMO.example", "alice") || u.Known("demo.example", "Alice") || u.Known("x", "alice") {
		t.Error("Known")
	}
}

func TestAddUserDropsOneTrailingNewline(t *testing.T) {
	a, b, c := usersFile(t, ""), usersFile(t, ""), usersFile(t, "")
	for path, password := range map[string]string{a: "pw", b: "pw\r\n", c: "pw\n\n"} {
		if err := AddUser(path, "d", "u", password); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, a) != read(t, b) {
		t.Error("the newline became part of the password")
	}
	if read(t, a) == read(t, c) {
		t.Error("two newlines were dropped")
	}
}

func TestAddUserReplacesTheUsersLinesAndKeepsTheRest(t *testing.T) {
	path := usersFile(t, "# ours\n\nbob:d:MD5:"+strings.Repeat("0", 32)+"\nalice:d:MD5:"+strings.Repeat("1", 32)+
		"\nalice:other:MD5:"+strings.Repeat("2", 32)+"\ncarol:d:SHA-256:"+strings.Repeat("3", 64))
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := AddUser(path, "d", "alice", "x"); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(read(t, path), "\n")
	var heads []string
	for _, l := range lines {
		heads = append(heads, l[:min(len(l), 14)])
	}
	want := []string{"# ours", "", "bob:d:MD5:0000", "alice:d:SHA-25", "alice:d:MD5:40", "alice:other:MD", "carol:d:SHA-25", ""}
	if len(heads) != len(want) {
		t.Fatalf("lines %q", heads)
	}
	for i := range want {
		if i != 4 && heads[i] != want[i] {
			t.Errorf("line %d is %q, want %q", i+1, heads[i], want[i])
		}
	}
	if strings.Contains(read(t, path), strings.Repeat("1", 32)) {
		t.Error("the old hash stays")
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	if files, _ := filepath.Glob(filepath.Dir(path) + "/.*"); len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}
}

func TestAddUserRefusesWhatBreaksALine(t *testing.T) {
	path := usersFile(t, "")
	for _, in := range [][3]string{
		{"d", "", "x"}, {"", "u", "x"}, {"d", "a:b", "x"}, {"d", "a b", "x"}, {"d", "a\nb", "x"}, {"d", "u@d", "x"}, {"d", "u", ""},
		{"d", "u", "\n"}, {`d"`, "u", "x"}, {"d", "#u", "x"}, {"d", strings.Repeat("u", 256), "x"},
	} {
		if err := AddUser(path, in[0], in[1], in[2]); err == nil {
			t.Errorf("%q accepted", in)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was made")
	}
	broken := usersFile(t, "nonsense\n")
	if err := AddUser(broken, "d", "u", "x"); err == nil || !strings.Contains(err.Error(), broken+":1:") || read(t, broken) != "nonsense\n" {
		t.Errorf("%v; file %q", err, read(t, broken))
	}
	if err := AddUser(filepath.Join(t.TempDir(), "no", "users"), "d", "u", "x"); err == nil {
		t.Error("a directory was made")
	}
}

func TestAddUserThroughALinkKeepsTheLink(t *testing.T) {
	real := usersFile(t, "# real\n")
	link := filepath.Join(t.TempDir(), "users")
	if err := os.Symlink(real, link); err != nil {
		t.Skip(err)
	}
	if err := AddUser(link, "d", "u", "x"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(read(t, real), "u:d:SHA-256:") {
		t.Error("the file behind the link is unchanged")
	}
}

func TestLoadUsersNamesFileAndLine(t *testing.T) {
	md5 := strings.Repeat("0", 32)
	for content, want := range map[string]string{
		"# c\nalice":                              ":2: want USER:DOMAIN:ALGORITHM:HEX",
		"a:d:MD5:" + md5 + ":x":                   ":1: want USER:",
		"a:d:SHA-512:" + md5:                      `:1: algorithm "SHA-512": want SHA-256 or MD5`,
		"a:d:MD5:12":                              ":1: MD5 hash: want 32 hex digits",
		"a:d:SHA-256:" + strings.Repeat("x", 64):  ":1: SHA-256 hash: want 64 hex digits",
		":d:MD5:" + md5:                           ":1: user: empty",
		"a::MD5:" + md5:                           ":1: domain: empty",
		"\na:d:MD5:" + md5 + "\r\na:D:md5:" + md5: ":3: a second MD5 line for a:d",
		"a:d:MD5:" + md5 + "\nb c:d:MD5:" + md5 + "\n#done": `:2: user "b c": character ' '`,
	} {
		path := usersFile(t, content)
		if _, err := LoadUsers(path); err == nil || !strings.Contains(err.Error(), path+want) {
			t.Errorf("%q: %v, want …%s", content, err, want)
		}
	}
	if _, err := LoadUsers("/nowhere/users"); err == nil || !strings.Contains(err.Error(), "/nowhere/users") {
		t.Error(err)
	}
	if u, err := LoadUsers(usersFile(t, "\n# none\n")); err != nil || u.Known("d", "a") {
		t.Error(err)
	}
}

// syncBuffer is a log that says when something was written.
type syncBuffer struct {
	bytes.Buffer
	wrote chan string
}

func (b *syncBuffer) Write(p []byte) (int, error) { b.wrote <- string(p); return len(p), nil }

func TestTheFileIsReadAgainWhenItChanges(t *testing.T) {
	path := usersFile(t, "")
	if err := AddUser(path, "d", "alice", "x"); err != nil {
		t.Fatal(err)
	}
	u, err := LoadUsers(path)
	if err != nil {
		t.Fatal(err)
	}
	log := &syncBuffer{wrote: make(chan string, 8)}
	ctx, cancel := context.WithCancel(t.Context())
	ticks, done := make(chan time.Time), make(chan struct{})
	go func() {
		defer close(done)
		u.watch(ctx, slog.New(slog.NewTextHandler(log, nil)), ticks)
	}()
	tick := func(want string) {
		t.Helper()
		ticks <- time.Time{}
		ticks <- time.Time{} // taken only when the first has been dealt with
		select {
		case line := <-log.wrote:
			if want == "" || !strings.Contains(line, want) {
				t.Errorf("logged %s, want %q", line, want)
			}
		default:
			if want != "" {
				t.Errorf("nothing logged, want %q", want)
			}
		}
	}
	tick("")
	if err := AddUser(path, "d", "bob", "x"); err != nil {
		t.Fatal(err)
	}
	tick("users file loaded")
	if !u.Known("d", "bob") || !u.Known("d", "alice") {
		t.Error("bob is not known")
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	tick(":1: want USER")
	tick("")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	tick("no such file")
	if !u.Known("d", "bob") {
		t.Error("a bad file took users away")
	}
	if err := AddUser(path, "d", "carol", "x"); err != nil {
		t.Fatal(err)
	}
	tick("users file loaded")
	if u.Known("d", "bob") || !u.Known("d", "carol") {
		t.Error("the new file is not in force")
	}
	cancel()
	<-done
}
