package registrar

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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

// watched is a users file that Watch looks at, in a bubble.
type watched struct {
	t    *testing.T
	path string
	u    *Users
	log  syncBuffer
}

// syncBuffer is a log that one goroutine writes and another takes.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// take returns what was written since it was last called.
func (b *syncBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.text.Reset()
	return b.text.String()
}

// watchFile runs test while Watch watches a file with alice in it.
func watchFile(t *testing.T, test func(w *watched)) {
	w := &watched{path: usersFile(t, "")}
	synctest.Test(t, func(t *testing.T) {
		w.t = t
		w.add("alice")
		var err error
		if w.u, err = LoadUsers(w.path); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.u.Watch(ctx, slog.New(slog.NewTextHandler(&w.log, nil)))
		synctest.Wait()
		test(w)
	})
}

func (w *watched) add(user string) {
	w.t.Helper()
	if err := AddUser(w.path, "d", user, "x"); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) write(content string) {
	w.t.Helper()
	if err := os.WriteFile(w.path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// look lets Watch look at the file once more.
func (w *watched) look() {
	time.Sleep(watchEvery)
	synctest.Wait()
}

// logs wants one line with text to come from two looks at the file, or none.
func (w *watched) logs(text string) {
	w.t.Helper()
	w.look()
	w.look()
	got := w.log.take()
	if lines := strings.Count(got, "\n"); !strings.Contains(got, text) || lines > 1 || (lines == 1) != (text != "") {
		w.t.Errorf("logged %q, want %q", got, text)
	}
}

func (w *watched) knows(users ...string) {
	w.t.Helper()
	for _, user := range []string{"alice", "bob", "carol"} {
		if want := slices.Contains(users, user); w.u.Known("d", user) != want {
			w.t.Errorf("%s is known: %v, want %v", user, !want, want)
		}
	}
}

func TestTheFileIsReadAgainWhenItChanges(t *testing.T) {
	watchFile(t, func(w *watched) {
		w.logs("")
		w.add("bob")
		w.logs("users file loaded")
		w.knows("alice", "bob")
		w.write("# nobody\n")
		w.logs("users=0")
		w.knows()
	})
}

func TestABadFileTakesNoUsersAway(t *testing.T) {
	watchFile(t, func(w *watched) {
		w.write("nonsense")
		w.logs(":1: want USER")
		w.logs("")
		w.write("")
		w.logs("empty; for no users at all")
		w.logs("")
		if err := os.Remove(w.path); err != nil {
			t.Fatal(err)
		}
		w.logs("no such file")
		w.logs("")
		w.knows("alice")
		w.add("carol")
		w.logs("users file loaded")
		w.knows("carol")
	})
}

func TestAFileThatIsBeingWrittenTakesNoUsersAway(t *testing.T) {
	watchFile(t, func(w *watched) {
		w.add("bob")
		w.logs("users file loaded")
		whole := read(t, w.path)
		lines := strings.SplitAfter(whole, "\n")
		for i := range lines {
			w.write(strings.Join(lines[:i], "")) // truncated, then longer at each look
			w.look()
			w.knows("alice", "bob")
		}
		w.write(whole + "# written\n")
		w.logs("users file loaded")
		w.knows("alice", "bob")
	})
}
