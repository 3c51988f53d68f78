package xmpp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/test/process"
)

// peer is a client of somebody else's, which speaks JSON lines.
type peer struct {
	name string
	run  *process.Process

	mu      sync.Mutex
	half    []byte
	events  []peerEvent
	changed chan struct{}
}

// peerEvent is one line of it.
type peerEvent struct {
	Event, JID, From, Body, Text, XML string
	JIDs                              []string
}

// Write takes what the peer prints.
func (p *peer) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.half = append(p.half, text...)
	for {
		line, rest, whole := bytes.Cut(p.half, []byte("\n"))
		if !whole {
			return len(text), nil
		}
		var e peerEvent
		if json.Unmarshal(line, &e) != nil {
			e = peerEvent{Event: "noise", Text: string(line)}
		}
		p.events, p.half = append(p.events, e), rest
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// expect waits for an event and takes it.
func (p *peer) expect(t testing.TB, ctx context.Context, event string, fits func(peerEvent) bool) peerEvent {
	t.Helper()
	for {
		p.mu.Lock()
		for i, e := range p.events {
			if e.Event == event && (fits == nil || fits(e)) {
				p.events = slices.Delete(p.events, i, i+1)
				p.mu.Unlock()
				return e
			}
		}
		wake, seen := p.changed, fmt.Sprintf("%+v", p.events)
		p.mu.Unlock()
		select {
		case <-wake:
		case <-p.run.Exited():
			t.Fatalf("%s ended instead of %s: %s", p.name, event, seen)
		case <-ctx.Done():
			t.Fatalf("%s did not tell %s but %s", p.name, event, seen)
		}
	}
}

func (p *peer) message(t testing.TB, ctx context.Context, body string) {
	t.Helper()
	p.expect(t, ctx, "message", func(e peerEvent) bool { return e.Body == body })
}

// do gives a command.
func (p *peer) do(t testing.TB, what string, args map[string]any) {
	t.Helper()
	if args == nil {
		args = make(map[string]any)
	}
	args["do"] = what
	line := got[[]byte](t)(json.Marshal(args))
	got[int](t)(p.run.Stdin().Write(append(line, '\n')))
}

// startPeer runs one.
func startPeer(t testing.TB, ctx context.Context, name, program string, args, env []string) *peer {
	t.Helper()
	p := &peer{name: name, changed: make(chan struct{})}
	p.run = process.Launch(t, process.Spec{Name: name, Path: process.Need(t, program), Dir: "clients", Args: args, Env: env, Stdin: true, Stdout: p})
	p.expect(t, ctx, "ready", nil)
	return p
}

// account is where a client of somebody else's logs in.
type account struct {
	jid, password, tls, wss, cafile string
}

// account of a user, set to the edge.
func (s *system) account(user string) account {
	return account{s.server.JID(user), s.server.cfg.Users[user], s.xmpps, "wss://localhost:" + portOf("ws://"+s.HTTPS+"/") + "/ws", s.RootsFile()}
}

// peers are the clients of others, by name.
var peers = map[string]func(testing.TB, context.Context, account) *peer{
	"@xmpp/client": func(t testing.TB, ctx context.Context, a account) *peer { return startNode(t, ctx, "@xmpp/client", a) },
	"stanza":       func(t testing.TB, ctx context.Context, a account) *peer { return startNode(t, ctx, "stanza", a) },
	"slixmpp":      startSlixmpp,
}

func startNode(t testing.TB, ctx context.Context, library string, a account) *peer {
	t.Helper()
	if _, err := os.Stat(filepath.Join("clients", "node_modules", library)); err != nil {
		process.Lack(t, library+" is not installed; test/interop/setup installs it")
	}
	p := startPeer(t, ctx, library, "node", []string{"client.js"}, []string{"NODE_EXTRA_CA_CERTS=" + a.cafile})
	p.do(t, "start", map[string]any{"library": library, "url": a.wss, "jid": a.jid, "password": a.password, "resource": "node"})
	return p
}

// python is Debian's, which has Debian's modules.
const python = "/usr/bin/python3"

func startSlixmpp(t testing.TB, ctx context.Context, a account) *peer {
	t.Helper()
	if _, err := os.Stat("/usr/lib/python3/dist-packages/slixmpp"); err != nil {
		process.Lack(t, "python3-slixmpp is not installed; test/interop/setup installs it")
	}
	host, port, _ := net.SplitHostPort(a.tls)
	p := startPeer(t, ctx, "slixmpp", python, []string{"slixmpp_client.py"}, nil)
	p.do(t, "start", map[string]any{
		"jid": a.jid, "password": a.password, "resource": "slix", "cafile": a.cafile,
		"host": host, "port": got[int](t)(strconv.Atoi(port)),
	})
	return p
}

// TestTXM1_ClientsOfOthers: login, roster, messages both ways, and a cut
// connection that is resumed, with the libraries as published.
func TestTXM1_ClientsOfOthers(t *testing.T) {
	eachServer(t, ServerConfig{Friends: [][2]string{{"alice", "bob"}}}, func(t *testing.T, s *Server) {
		sys := startSystem(t, s)
		for name, start := range peers {
			t.Run(strings.TrimPrefix(name, "@"), func(t *testing.T) {
				ctx := within(t, 30*time.Second)
				alice := connected(t, ctx, s.client(t, "alice", "tcp://"+s.Plain))
				p := start(t, ctx, sys.account("bob"))
				tellPeer(t, ctx, s, alice, p)
			})
		}
	})
}

// tellPeer is the story of one client that is bob.
func tellPeer(t *testing.T, ctx context.Context, s *Server, alice *Client, p *peer) {
	t.Helper()
	jid := p.expect(t, ctx, "online", nil).JID
	p.do(t, "roster", nil)
	if r := p.expect(t, ctx, "roster", nil); !slices.Contains(r.JIDs, s.JID("alice")) {
		t.Errorf("the roster is %v", r.JIDs)
	}
	p.do(t, "send", map[string]any{"to": alice.JID(), "body": "from outside <&> ü"})
	if m := got[*Stanza](t)(alice.ExpectMessage(ctx, "from outside <&> ü")); m.From() != jid {
		t.Errorf("from %s, want %s", m.From(), jid)
	}
	got[string](t)(alice.Message(jid, "from inside <&> ü"))
	p.message(t, ctx, "from inside <&> ü")
	p.do(t, "cut", nil)
	for i := range 3 {
		got[string](t)(alice.Message(jid, "while away "+strconv.Itoa(i)))
	}
	for i := range 3 {
		p.message(t, ctx, "while away "+strconv.Itoa(i))
	}
	p.expect(t, ctx, "resumed", nil)
	p.do(t, "send", map[string]any{"to": alice.JID(), "body": "back"})
	got[*Stanza](t)(alice.ExpectMessage(ctx, "back"))
	p.do(t, "stop", nil)
	got[*Stanza](t)(alice.Expect(ctx, "the end of "+jid, func(s *Stanza) bool {
		return s.Name == "presence" && s.Type() == "unavailable" && s.From() == jid
	}))
}
