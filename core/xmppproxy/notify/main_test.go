package notify_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sallyport/core/location"
	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
	"sallyport/core/stanza"
	"sallyport/core/wake"
	"sallyport/core/xmppproxy/notify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bundle = "org.example.phone"

// town is a core's pushes, against Apple's simulator.
type town struct {
	*notify.Notifier
	t     *testing.T
	apple *pushtest.APNs
	loc   *location.Location
	store *slowStore
	log   *lines
}

// client is a session as its owner sees it.
type client struct {
	jid    string
	others atomic.Pointer[time.Time]
	late   atomic.Pointer[string] // the last answer that came later
	again  atomic.Int32           // how often it was to be asked about
}

func (c *client) Answer(p []byte) { s := string(p); c.late.Store(&s) }
func (c *client) Recheck()        { c.again.Add(1) }

// busy says that another client of the user is active now.
func (c *client) busy() {
	now := time.Now()
	c.others.Store(&now)
}

func (c *client) JID() string { return c.jid }
func (c *client) Others() time.Time {
	if at := c.others.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

func (c *client) Bare() string {
	bare, _, _ := strings.Cut(c.jid, "/")
	return bare
}

// lines are what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

// inTown runs f in a bubble of fake time.
func inTown(t *testing.T, cfg notify.Config, f func(w *town)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := pushtest.NewListener()
		apple := pushtest.NewAPNs(pushtest.APNsConfig{AnyToken: true})
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		run := func(name string, run func(context.Context) error) {
			running.Go(func() {
				if err := run(ctx); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		defer running.Wait()
		defer cancel()
		run("apple", func(ctx context.Context) error { return apple.Serve(ctx, l) })
		<-apple.Ready()

		dir := t.TempDir()
		write := func(name string, text []byte) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		key, kid, team := apple.NewKey()
		sender, err := apns.New(apns.Config{
			BundleID: bundle, TeamID: team, KeyID: kid, KeyFile: write(kid+".p8", key), Endpoint: apple.URL(), CAFile: write("ca.pem", apple.CA()), Dial: l.Dial,
		}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := &town{t: t, apple: apple, store: &slowStore{put: func() error { return nil }}, log: &lines{}}
		w.loc = location.New(location.Config{}, w.store, nil)
		pushes := push.New(push.Config{Enabled: true}, []push.App{
			{ID: bundle, Provider: push.ProviderAPNs, TeamID: team, Privacy: push.PrivacyFull, Sender: sender, Run: sender.Run},
			{ID: "org.example.web", Provider: push.ProviderWebPush, Sender: sender},
		}, nil, nil)
		waker := wake.New(wake.Config{}, pushes, nil, nil)
		w.Notifier = notify.New(cfg, notify.Deps{
			Location: w.loc, Waker: waker, Apps: pushes, Log: slog.New(slog.NewTextHandler(w.log, nil)),
		})
		run("location", w.loc.Run)
		run("push", pushes.Run)
		run("wake", waker.Run)
		run("notify", w.Run)
		f(w)
	})
}

func parse(t testing.TB, text string) *stanza.Element {
	t.Helper()
	frames := stanza.NewFrames(stanza.Limits{})
	frames.Feed([]byte(text))
	_, e, err := frames.Next()
	if err != nil || e == nil {
		t.Fatalf("%s: %v", text, err)
	}
	return e
}

const (
	alertToken = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
	voipToken  = "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2"
)

// options are a form of publish options.
func options(pairs ...string) string {
	form := `<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>`
	for i := 0; i < len(pairs); i += 2 {
		form += `<field var='` + pairs[i] + `'><value>` + pairs[i+1] + `</value></field>`
	}
	return form + `</x>`
}

func enable(node, form string) string {
	return `<iq type='set' id='e1'><enable xmlns='urn:xmpp:push:0' jid='push.example.com' node='` + node + `'>` + form + `</enable></iq>`
}

// ask sends a request of a client, and wants it to be answered here.
func (w *town) ask(c *client, text string) *stanza.Element {
	w.t.Helper()
	answer, consumed := w.FromClient(c, parse(w.t, text))
	if !consumed {
		w.t.Fatalf("not answered: %s", text)
	}
	if answer == nil { // once it is safe
		synctest.Wait()
		return parse(w.t, *c.late.Load())
	}
	return parse(w.t, string(answer))
}

func (w *town) granted(c *client, text string) {
	w.t.Helper()
	if a := w.ask(c, text); string(a.Attr("type")) != "result" {
		w.t.Fatalf("%s\nwas answered %s", text, a.Raw)
	}
}

// registered is a client with both of Apple's tokens.
func (w *town) registered(jid string) *client {
	w.t.Helper()
	c := &client{jid: jid}
	w.granted(c, enable("node", options("service", "apns", "device_id", alertToken, "topic", bundle)))
	w.granted(c, enable("calls", options("service", "apns", "device_id", voipToken, "topic", bundle+".voip")))
	return c
}

// waits says that a stanza waits for a client that is away.
func (w *town) waits(c *client, text string) {
	w.t.Helper()
	w.Push(c, parse(w.t, text), 1)
	synctest.Wait()
}

// payload is what an app gets.
type payload struct {
	Channel, Event, Text string
	CallID               string `json:"call_id"`
	FromURI              string `json:"from_uri"`
	FromName             string `json:"from_name"`
	To                   string
	Video                bool
	Count                int
	APS                  struct{ Badge int }
}

// pushed are the pushes that arrived, oldest first, of a channel or all.
func (w *town) pushed(channel string) (out []payload) {
	w.t.Helper()
	synctest.Wait()
	for _, p := range w.apple.Pushes() {
		var one payload
		if err := json.Unmarshal(p.Payload, &one); err != nil {
			w.t.Fatal(err)
		}
		if channel == "" || channel == one.Channel {
			out = append(out, one)
		}
	}
	return out
}

func (w *town) wantPushes(messages, calls int) {
	w.t.Helper()
	if m, c := w.pushed("message"), w.pushed("voip"); len(m) != messages || len(c) != calls {
		w.t.Errorf("%d Message and %d VoIP pushes, want %d and %d: %+v", len(m), len(c), messages, calls, w.pushed(""))
	}
}
