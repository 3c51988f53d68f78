package apns_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
)

// linked writes a key under the name that Apple gives it, and lets the link lead
// to it.
func (a *apple) linked(link string) (kid string) {
	a.t.Helper()
	p8, kid, _ := a.NewKey()
	file := a.write("AuthKey_"+kid+".p8", p8)
	if err := os.Symlink(file, link+".new"); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		a.t.Fatal(err)
	}
	return kid
}

// running runs a client until the test calls stop.
func (a *apple) running(cfg apns.Config) (c *apns.Client, stop func()) {
	a.t.Helper()
	c, err := apns.New(cfg, testLog(a.t), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	return c, func() { cancel(); wg.Wait() }
}

func TestP14_ReplacedKeyIsUsedOnANewConnection(t *testing.T) {
	for name, revoke := range map[string]bool{"the old key is still good": false, "the old key is revoked at once": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
				cfg := a.config()
				cfg.Dial = l.Dial
				cfg.KeyID, cfg.KeyFile = "", filepath.Join(a.files, "apns.p8")
				old := a.linked(cfg.KeyFile)
				c, stop := a.running(cfg)
				defer stop()
				phone := a.phone(push.KindVoIP)
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() {
						for range 200 { // 10 s
							if r := c.Send(callContext(t), ring(phone)); r.Outcome != push.Accepted {
								t.Errorf("during the change: %s %s", r.Outcome, r.Reason)
								return
							}
							time.Sleep(50 * time.Millisecond)
						}
					})
				}
				time.Sleep(2 * time.Second)
				kid := a.linked(cfg.KeyFile)
				if revoke {
					a.RevokeKey(old)
				}
				wg.Wait()
				keys := make(map[int]string)
				for _, p := range a.Accepted() {
					if was := keys[p.Conn]; was != "" && was != p.KeyID {
						t.Errorf("connection %d saw keys %s and %s", p.Conn, was, p.KeyID)
					}
					keys[p.Conn] = p.KeyID
				}
				if pushes := a.Accepted(); pushes[0].KeyID != old || pushes[len(pushes)-1].KeyID != kid || len(keys) != 2 {
					t.Errorf("keys by connection %v, want %s and then %s", keys, old, kid)
				}
				a.clean()
			})
		})
	}
}

func TestP14_WithoutAnIDTheFileMustHaveApplesName(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	p8, kid, _ := a.NewKey()
	cfg := a.config()
	cfg.KeyID = ""
	for _, name := range []string{"apns.p8", "AuthKey_.p8", "AuthKey_" + kid + ".pem", "AuthKey_sim key.p8", kid + ".p8"} {
		cfg.KeyFile = a.write(name, p8)
		if _, err := apns.New(cfg, nil, nil); err == nil || !strings.Contains(err.Error(), "key_id: must") {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg.KeyFile = a.write("AuthKey_"+kid+".p8", p8)
	wantOutcome(t, a.client(cfg).Send(callContext(t), ring(a.phone(push.KindVoIP))), push.Accepted)

	var log logs
	cfg.KeyID = "SIMKEY9999"
	c, err := apns.New(cfg, log.logger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if !strings.Contains(log.String(), "key_id is not the one") {
		t.Errorf("an id beside another's file is not noticed: %s", log.String())
	}
}

func TestP14_KeyFileThatChangesIsRead(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c, stop := a.running(cfg)
		defer stop()
		phone := a.phone(push.KindVoIP)
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)

		p8, public, err := pushtest.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		a.AddKey(cfg.KeyID, pushtest.Key{Team: cfg.TeamID, Public: public})
		if err := os.WriteFile(cfg.KeyFile, []byte("half a fi"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		if ok, last := c.Health(); ok || !strings.Contains(last, filepath.Base(cfg.KeyFile)) {
			t.Errorf("health %v %q does not name the file", ok, last)
		}
		if err := os.WriteFile(cfg.KeyFile, p8, 0o600); err != nil {
			t.Fatal(err)
		}
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted) // refused, read, resent
		if ok, last := c.Health(); !ok {
			t.Errorf("health: %s", last)
		}
		stop()
		if r := c.Send(callContext(t), ring(phone)); r.Outcome != push.ProviderDown || r.Reason != "shutting down" {
			t.Errorf("after the end: %+v", r)
		}
	})
}
