package xmpp

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/test/process"
)

// profanity is a client for terminals, of the user bob, run in one that nobody
// sees. It tells what it does in its log.
type profanity struct {
	run *process.Process
	log string
}

const profanityAccount = `[%[1]s]
enabled=true
jid=%[1]s
server=%[2]s
port=%[3]s
resource=prof
password=%[4]s
tls.policy=legacy
presence.last=online
presence.login=online
`

const profanityPrefs = `[connection]
account=
[ui]
splash=false
[logging]
chlog=false
`

// startProfanity runs one and connects it.
func startProfanity(t testing.TB, a account) *profanity {
	t.Helper()
	process.Need(t, "profanity")
	dir := process.TempDir(t)
	for _, d := range []string{"config/profanity", "data/profanity"} {
		process.MakeDir(t, filepath.Join(dir, d))
	}
	host, port, _ := net.SplitHostPort(a.tls)
	process.WriteFile(t, filepath.Join(dir, "config/profanity/profrc"), profanityPrefs)
	process.WriteFile(t, filepath.Join(dir, "data/profanity/accounts"), fmt.Sprintf(profanityAccount, a.jid, host, port, a.password))
	p := &profanity{log: filepath.Join(dir, "log")}
	p.run = process.Launch(t, process.Spec{
		Name: "profanity", Path: process.Need(t, "script"), Dir: dir, Stdin: true,
		Args: []string{"-q", "-f", "-c", "stty cols 200 rows 50; exec profanity -l DEBUG -f " + p.log, "/dev/null"},
		Env:  []string{"TERM=xterm", "LC_ALL=C.UTF-8", "HOME=" + dir, "XDG_CONFIG_HOME=" + dir + "/config", "XDG_DATA_HOME=" + dir + "/data"},
	})
	p.until(t, "Profanity") // it has begun its log
	p.enter(t, "/connect "+a.jid)
	return p
}

// enter types a line.
func (p *profanity) enter(t testing.TB, line string) {
	t.Helper()
	got[int](t)(p.run.Stdin().Write([]byte(line + "\r")))
}

// until waits until its log has a text and returns how often it has it.
func (p *profanity) until(t testing.TB, text string) int {
	t.Helper()
	n := 0
	if err := process.Poll(10*time.Second, func() error {
		log, err := os.ReadFile(p.log)
		if n = strings.Count(string(log), text); err == nil && n == 0 {
			err = fmt.Errorf("no %q in profanity's log:\n%s", text, log[max(0, len(log)-4000):])
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTXM1_Profanity: login over direct TLS, roster, messages both ways.
func TestTXM1_Profanity(t *testing.T) {
	s := StartProsody(t, ServerConfig{Users: users, Friends: [][2]string{{"alice", "bob"}}})
	sys := startSystem(t, s)
	ctx := within(t, 40*time.Second)
	alice := connected(t, ctx, sys.inside(t, "alice"))
	p := startProfanity(t, sys.account("bob"))
	jid := s.JID("bob") + "/prof"
	p.until(t, "preverify_ok:0") // the edge's certificate is not the domain's
	p.enter(t, "/tls always")
	got[*Stanza](t)(alice.Expect(ctx, "bob to come", func(s *Stanza) bool { return s.Name == "presence" && s.Type() == "" && s.From() == jid }))
	p.until(t, `<item jid="`+s.JID("alice")+`"`)
	p.enter(t, "/msg "+s.JID("alice")+" from a terminal <&> x")
	got[*Stanza](t)(alice.ExpectMessage(ctx, "from a terminal <&> x"))
	got[string](t)(alice.Message(jid, "to a terminal"))
	p.until(t, "<body>to a terminal</body>")
	p.enter(t, "/quit")
	got[*Stanza](t)(alice.Expect(ctx, "bob to leave", func(s *Stanza) bool {
		return s.Name == "presence" && s.Type() == "unavailable" && s.From() == jid
	}))
}
