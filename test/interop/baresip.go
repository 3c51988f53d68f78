package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/test/process"
)

// BaresipConfig says who a baresip is and where it registers.
type BaresipConfig struct {
	AOR       string // sip:user@domain
	Password  string
	Addr      string // HOST:PORT of its outbound proxy
	Transport string // tls (the default) or tcp
	CAFile    string // PEM that the server's certificate is checked against
	Dir       string // config of an earlier run, to be the same instance again
}

// Baresip is a SIP user agent whose sound goes round in a loop.
type Baresip struct {
	*process.Process
	// Dir holds its configuration and instance.
	Dir    string
	events *events
	ctl    net.Conn
	t      testing.TB
}

const baresipConfig = `poll_method epoll
net_interface 127.0.0.1
sip_listen 127.0.0.1:0
sip_cafile %s
audio_source aubridge,loop
audio_player aubridge,loop
audio_alert aubridge,alert
audio_path %s
module_path /usr/lib/baresip/modules
module g711.so
module aubridge.so
module uuid.so
module_app account.so
module_app contact.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:%d
`

// StartBaresip runs the client; it registers by itself.
func StartBaresip(t testing.TB, cfg BaresipConfig) *Baresip {
	t.Helper()
	path := process.Need(t, "baresip")
	b := &Baresip{Dir: cfg.Dir, events: newEvents(), t: t}
	if b.Dir == "" {
		b.Dir = process.TempDir(t)
	}
	if cfg.Transport == "" {
		cfg.Transport = "tls"
	}
	user, _, _ := strings.Cut(strings.TrimPrefix(cfg.AOR, "sip:"), "@")
	port := process.FreePort(t)
	process.WriteFile(t, filepath.Join(b.Dir, "config"), fmt.Sprintf(baresipConfig, cfg.CAFile, b.Dir, port))
	process.WriteFile(t, filepath.Join(b.Dir, "contacts"), "")
	process.WriteFile(t, filepath.Join(b.Dir, "accounts"), "")
	account := fmt.Sprintf(
		"<%s;transport=%s>;auth_user=%s;auth_pass=%s;outbound=\"sip:%s;transport=%[2]s\";sipnat=outbound;regint=300;answermode=manual",
		cfg.AOR, cfg.Transport, user, cfg.Password, cfg.Addr)
	b.Process = process.Launch(t, process.Spec{Name: "baresip", Path: path, Args: []string{"-f", b.Dir, "-v"}, Dir: b.Dir})
	b.Until(t, func() (err error) {
		b.ctl, err = net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
		return err
	})
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		b.listen()
	}()
	t.Cleanup(func() {
		b.ctl.Close()
		<-heard
	})
	// The account comes only now, so that none of its news is missed.
	b.Do("uanew", account)
	return b
}

// listen reads what baresip tells: JSON in netstrings (LENGTH ":" TEXT ",").
func (b *Baresip) listen() {
	r := bufio.NewReader(b.ctl)
	for {
		digits, err := r.ReadString(':')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(digits, ":"))
		if err != nil || n < 0 || n > 1<<20 {
			return
		}
		text := make([]byte, n+1)
		if _, err := io.ReadFull(r, text); err != nil {
			return
		}
		var facts map[string]any
		if json.Unmarshal(text[:n], &facts) != nil {
			continue
		}
		if name, ok := facts["type"].(string); ok {
			b.events.add(Event{Name: name, Facts: facts})
		}
	}
}

// Do gives a command of its menu, such as "dial", "accept" and "hangup".
func (b *Baresip) Do(command, params string) {
	b.t.Helper()
	text, err := json.Marshal(map[string]string{"command": command, "params": params, "token": command})
	if err == nil {
		_, err = fmt.Fprintf(b.ctl, "%d:%s,", len(text), text)
	}
	if err != nil {
		b.t.Fatalf("baresip: %s: %v", command, err)
	}
}

// Expect waits for the next event of that name, such as REGISTER_OK,
// CALL_INCOMING, CALL_RINGING, CALL_ESTABLISHED and CALL_CLOSED.
func (b *Baresip) Expect(ctx context.Context, name string) Event {
	b.t.Helper()
	ev, err := b.events.expect(ctx, name, b.Exited())
	if err != nil {
		b.t.Fatalf("baresip: %v", err)
	}
	return ev
}

// Count returns how often an event of that name was told.
func (b *Baresip) Count(name string) int { return b.events.count(name) }
