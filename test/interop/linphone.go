package interop

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/test/process"
)

// LinphoneConfig says who a Linphone is and where it registers.
type LinphoneConfig struct {
	AOR      string // sip:user@domain
	Password string
	// Addr is the HOST:PORT of its outbound proxy, over TLS. Its host must be a DNS
	// name: Linphone does not read the IP addresses of a certificate.
	Addr   string
	CAFile string // PEM that the server's certificate is checked against
	Push   string // URI parameters of the contact, pn-*
	Dir    string // config of an earlier run, to be the same instance again
}

// Linphone is Debian's linphone-daemon: liblinphone without a screen, and here
// without sound.
type Linphone struct {
	*process.Process
	// Dir holds its configuration, instance and files.
	Dir    string
	events *events
	t      testing.TB

	mu  sync.Mutex // one command at a time
	ctl net.Conn
}

// linphoneConfig has TLS alone (a port of -1 is a random one, 0 is none) and
// no ICE: nothing leaves loopback. Its instance is given, since Linphone writes
// one that it made up only when it ends in peace.
const linphoneConfig = `[sip]
default_proxy=0
sip_port=0
sip_tcp_port=0
sip_tls_port=-1
bind_address=127.0.0.1
use_ipv6=0
root_ca=%[4]s
[net]
firewall_policy=0
[rtp]
audio_rtp_port=-1
[misc]
uuid=%[8]s
[proxy_0]
reg_identity=%[1]s
reg_proxy=<sip:%[3]s;transport=tls>
reg_route=<sip:%[3]s;transport=tls;lr>
reg_expires=300
reg_sendregister=1
publish=0
contact_uri_parameters=%[5]s
[auth_info_0]
username=%[6]s
passwd=%[2]s
realm=%[7]s
domain=%[7]s
`

// StartLinphone runs the client; it registers by itself.
func StartLinphone(t testing.TB, cfg LinphoneConfig) *Linphone {
	t.Helper()
	path := process.Need(t, "linphone-daemon")
	l := &Linphone{Dir: cfg.Dir, events: newEvents(), t: t}
	rc := filepath.Join(l.Dir, "linphonerc")
	if l.Dir == "" {
		l.Dir = process.TempDir(t)
		rc = filepath.Join(l.Dir, "linphonerc")
		user, domain, _ := strings.Cut(strings.TrimPrefix(cfg.AOR, "sip:"), "@")
		process.WriteFile(t, rc, fmt.Sprintf(linphoneConfig, cfg.AOR, cfg.Password, cfg.Addr, cfg.CAFile, cfg.Push, user, domain, uuid()))
		process.MakeDir(t, filepath.Join(l.Dir, ".local", "share", "linphone")) // it does not make it itself
	}
	// The socket's name is taken to be below /tmp.
	ctl := filepath.Join(l.Dir, fmt.Sprintf("ctl-%d", time.Now().UnixNano()))
	below, err := filepath.Rel("/tmp", ctl)
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(l.Dir, "log")
	l.Process = process.Launch(t, process.Spec{
		Name: "linphone-daemon", Path: path, Dir: l.Dir,
		Args: []string{"--config", rc, "--log", log, "--pipe", below},
		Env:  []string{"HOME=" + l.Dir, "XDG_RUNTIME_DIR=" + l.Dir, "PULSE_SERVER=unix:" + l.Dir + "/none", "ALSA_CONFIG_PATH=/dev/null"},
	})
	l.Until(t, func() (err error) {
		l.ctl, err = net.Dial("unix", ctl)
		return err
	})
	quit, heard := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(heard)
		l.listen(quit)
	}()
	t.Cleanup(func() {
		close(quit)
		l.ctl.Close()
		<-heard
		if t.Failed() {
			process.LogFile(t, log)
		}
	})
	return l
}

// listen asks for news, which the daemon tells only when asked, until quit.
func (l *Linphone) listen(quit <-chan struct{}) {
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	registered := ""
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
		}
		if said, err := l.ask("register-status ALL"); err != nil {
			return
		} else if state := said["State"]; state != registered {
			registered = state
			l.events.add(Event{Name: state})
		}
		said, err := l.ask("pop-event")
		if err != nil {
			return
		}
		if name := said["Event"]; name != "" {
			l.events.add(Event{Name: name, Facts: map[string]any{"from": said["From"], "id": said["Id"]}})
		}
	}
}

// ask gives one command and returns the fields of its answer, which comes in
// one piece.
func (l *Linphone) ask(command string) (map[string]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.ctl.Write([]byte(command + "\n")); err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	n, err := l.ctl.Read(buf)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for line := range strings.SplitSeq(string(buf[:n]), "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			fields[name] = value
		}
	}
	return fields, nil
}

// uuid returns a random UUID (RFC 9562 §5.4).
func uuid() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// forgetInstance takes the instance from the configuration of a Linphone that
// has ended.
func (l *Linphone) forgetInstance() {
	l.t.Helper()
	rc := filepath.Join(l.Dir, "linphonerc")
	text, err := os.ReadFile(rc)
	if err != nil {
		l.t.Fatal(err)
	}
	process.WriteFile(l.t, rc, regexp.MustCompile(`(?m)^uuid=.*\n`).ReplaceAllString(string(text), ""))
}

// Do gives a command, such as "call sip:alice@example.com", "answer" and
// "terminate".
func (l *Linphone) Do(command string) {
	l.t.Helper()
	if said, err := l.ask(command); err != nil || said["Status"] != "Ok" {
		l.t.Fatalf("linphone: %s: %v %v", command, said, err)
	}
}

// Expect waits for the next event of that name: a state of the registration
// (LinphoneRegistrationOk) or of a call (LinphoneCallIncomingReceived,
// LinphoneCallOutgoingRinging, LinphoneCallStreamsRunning, LinphoneCallEnd).
func (l *Linphone) Expect(ctx context.Context, name string) Event {
	l.t.Helper()
	ev, err := l.events.expect(ctx, name, l.Exited())
	if err != nil {
		l.t.Fatalf("linphone: %v", err)
	}
	return ev
}

// Count returns how often an event of that name was told.
func (l *Linphone) Count(name string) int { return l.events.count(name) }
