package fcm_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/fcm"
	"sallyport/core/push/pushtest"
)

func TestTheAccessTokenIsFetchedBeforeItIsNeeded(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		c := g.running(g.config())
		start, end := time.Now(), 24*time.Hour
		for time.Since(start) < end {
			time.Sleep(17 * time.Minute)
			g.SetLatency(0)
			before := g.TokenRequests()
			g.Inject(pushtest.Fault{OAuth: true, Status: 503, Count: -1}) // a call that had to fetch would fail
			wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
			g.ClearFaults()
			if g.TokenRequests() != before {
				t.Fatal("a call had to wait for an access token")
			}
		}
		if n := g.TokenRequests(); n < 24 || n > 30 {
			t.Errorf("%d access tokens in a day", n)
		}
		g.clean()
	})
}

func TestOneFetchServesAllThatWaitForIt(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		g.SetLatency(300 * time.Millisecond)
		c := g.client(g.config())
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted) })
		}
		wg.Wait()
		if n := g.TokenRequests(); n != 1 {
			t.Errorf("%d access tokens for 50 calls", n)
		}
		g.clean()
	})
}

// The push that asked for it is withdrawn; the others still get it.
func TestNobodyEndsAFetchByLeaving(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		g.SetLatency(time.Second)
		c := g.client(g.config())
		ctx := callContext(t)
		var wg sync.WaitGroup
		short := make(chan push.Result, 1)
		wg.Go(func() { short <- c.Send(expired(t, 100*time.Millisecond), ring(g.phone())) })
		time.Sleep(50 * time.Millisecond)
		wg.Go(func() { wantOutcome(t, c.Send(ctx, ring(g.phone())), push.Accepted) })
		wg.Wait()
		if r := <-short; r.Outcome != push.ProviderDown || r.Reason != "no access token: no answer in time" {
			t.Errorf("%+v", r)
		}
		if n := g.TokenRequests(); n != 1 {
			t.Errorf("%d requests for an access token, want 1", n)
		}
	})
}

func TestARefusedAccountIsNotAskedForAgainAndAgain(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		g.RevokeKey()
		c := g.running(g.config())
		start := time.Now()
		for time.Since(start) < time.Hour {
			time.Sleep(10 * time.Second)
			r := c.Send(callContext(t), ring(g.phone()))
			if r.Outcome != push.ProviderDown || r.Retry != 5*time.Minute ||
				r.Reason != "no access token: invalid_grant (HTTP status 400 from the token endpoint)" {
				t.Fatalf("%+v", r)
			}
		}
		if n := g.TokenRequests(); n > 20 {
			t.Errorf("%d requests for an access token in an hour", n)
		}
		tr := c.Condition().Trouble
		if tr == nil || tr.Kind != push.TroubleAuth || !strings.Contains(tr.Remedy, "still valid") {
			t.Errorf("trouble %+v", tr)
		}
		if len(g.Pushes()) != 0 {
			t.Error("something was sent without an access token")
		}
	})
}

// An access token can be revoked before its time. The push that finds out
// fails, since what was answered is not sent again; the next ones work.
func TestARevokedAccessTokenIsReplaced(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		c := g.running(g.config())
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		g.ExpireTokens()
		r := c.Send(callContext(t), ring(g.phone()))
		if r.Outcome != push.ProviderDown || r.Status != 401 || r.Reason != "UNAUTHENTICATED" {
			t.Errorf("%+v", r)
		}
		time.Sleep(5 * time.Second)
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		if ok, last := c.Health(); !ok {
			t.Errorf("health: %s", last)
		}
		if n := g.TokenRequests(); n != 2 {
			t.Errorf("%d requests for an access token, want 2", n)
		}
	})
}

func TestWhatTheTokenEndpointMayAnswer(t *testing.T) {
	for name, want := range map[string]struct {
		fault  pushtest.Fault
		reason string
		kind   string
	}{
		"503":        {pushtest.Fault{Status: 503}, "HTTP status 503", push.TroubleServer},
		"a page":     {pushtest.Fault{Status: 403, HTML: true}, "HTTP status 403", push.TroubleAuth},
		"a redirect": {pushtest.Fault{Status: 302, HTML: true}, "HTTP status 302", push.TroubleAuth},
		"no token":   {pushtest.Fault{Status: 203, HTML: true}, "", push.TroubleAuth},
		"silence":    {pushtest.Fault{Drop: true}, "", push.TroubleNetwork},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
				want.fault.OAuth, want.fault.Count = true, -1
				g.Inject(want.fault)
				c := g.running(g.config())
				start := time.Now()
				r := c.Send(callContext(t), ring(g.phone()))
				if r.Outcome != push.ProviderDown || !strings.HasPrefix(r.Reason, "no access token: ") || !strings.Contains(r.Reason, want.reason) {
					t.Errorf("%+v", r)
				}
				if took := time.Since(start); took > push.CallTimeout {
					t.Errorf("took %v", took)
				}
				time.Sleep(15 * time.Second)
				if tr := c.Condition().Trouble; tr == nil || tr.Kind != want.kind {
					t.Errorf("trouble %+v, want %s", tr, want.kind)
				}
				g.ClearFaults()
				time.Sleep(40 * time.Second) // a refusal waits 5, 10, 20 s
				wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
			})
		})
	}
}

func TestAWrongClockIsNamed(t *testing.T) {
	for _, ahead := range []time.Duration{65 * time.Minute, -65 * time.Minute, time.Minute} {
		var offset time.Duration
		now := func() time.Time { return time.Now().Add(-offset) }
		inBubble(t, pushtest.FCMConfig{Now: now}, func(t *testing.T, g *google) {
			g.Register("x", pushtest.FCMApp{})
			offset = ahead
			c := g.running(g.config())
			for range 100 {
				c.Send(callContext(t), ring(g.phone()))
				time.Sleep(10 * time.Second)
			}
			wrong := ahead.Abs() > 2*time.Minute
			tr := c.Condition().Trouble
			if wrong != (tr != nil && tr.Kind == push.TroubleClock) {
				t.Errorf("%v ahead: trouble %+v", ahead, tr)
			}
			if n := g.TokenRequests(); n > 12 {
				t.Errorf("%v ahead: %d requests for an access token: a loop", ahead, n)
			}
		})
	}
}

// edit writes the service account with some of its fields changed.
func edit(t *testing.T, file string, change map[string]any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	for k, v := range change {
		m[k] = v
	}
	if text, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAServiceAccountIsReplacedWithoutARestart(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		cfg := g.config()
		good, err := os.ReadFile(cfg.ServiceAccount)
		if err != nil {
			t.Fatal(err)
		}
		edit(t, cfg.ServiceAccount, map[string]any{"private_key_id": "unknown"})
		c := g.running(cfg)
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.ProviderDown)
		if err := os.WriteFile(cfg.ServiceAccount, good, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)

		for name, change := range map[string]func(){
			"half a file": func() {
				if err := os.WriteFile(cfg.ServiceAccount, good[:len(good)/2], 0o600); err != nil {
					t.Fatal(err)
				}
			},
			"another project": func() { edit(t, cfg.ServiceAccount, map[string]any{"project_id": "other-project"}) },
		} {
			if err := os.WriteFile(cfg.ServiceAccount, good, 0o600); err != nil {
				t.Fatal(err)
			}
			change()
			time.Sleep(6 * time.Second)
			if ok, last := c.Health(); ok || !strings.HasPrefix(last, "service_account: ") {
				t.Errorf("%s: health %v %q", name, ok, last)
			}
			wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted) // with the old one
		}
		if err := os.WriteFile(cfg.ServiceAccount, good, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		if ok, last := c.Health(); !ok {
			t.Errorf("health: %s", last)
		}
	})
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	g := newGoogle(t, pushtest.FCMConfig{})
	good := g.config()
	for want, change := range map[string]func(*fcm.Config){
		"id: ":                   func(c *fcm.Config) { c.Package = "" },
		"service_account: must":  func(c *fcm.Config) { c.ServiceAccount = "" },
		"project: ":              func(c *fcm.Config) { c.Project = "../x" },
		"endpoint: ":             func(c *fcm.Config) { c.Endpoint = "http://127.0.0.1:1" },
		"ca_file: ":              func(c *fcm.Config) { c.CAFile = "none.pem" },
		"holds no certificate":   func(c *fcm.Config) { c.CAFile = c.ServiceAccount },
		"push.proxy: ":           func(c *fcm.Config) { c.Proxy = "proxy:3128" },
		"push.no_proxy: ":        func(c *fcm.Config) { c.Proxy, c.NoProxy = "http://proxy:3128", []string{"*"} },
		"not JSON":               func(c *fcm.Config) { c.ServiceAccount = c.CAFile },
		"google-services.json":   account(t, map[string]any{"type": "authorized_user"}),
		"client_email":           account(t, map[string]any{"client_email": ""}),
		"project_id":             account(t, map[string]any{"project_id": "a/b"}),
		"token_uri":              account(t, map[string]any{"token_uri": "http://x/token"}),
		"private_key: not PEM":   account(t, map[string]any{"private_key": "sekrit"}),
		"private_key: not an RS": account(t, map[string]any{"private_key": "-----BEGIN PRIVATE KEY-----\nc2Vrcml0\n-----END PRIVATE KEY-----\n"}),
		"longer than":            account(t, map[string]any{"x": strings.Repeat("x", 70<<10)}),
	} {
		cfg := good
		change(&cfg)
		_, err := fcm.New(cfg, nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sekrit") || strings.Contains(err.Error(), "c2Vrcml0") {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	good.ServiceAccount = "none.json"
	if _, err := fcm.New(good, nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

// account changes the service account of a config.
func account(t *testing.T, change map[string]any) func(*fcm.Config) {
	return func(c *fcm.Config) {
		text, err := os.ReadFile(c.ServiceAccount)
		if err != nil {
			t.Fatal(err)
		}
		c.ServiceAccount = write(t, "account.json", text)
		edit(t, c.ServiceAccount, change)
	}
}

func TestTheProjectIsThatOfTheAccountOrTheConfig(t *testing.T) {
	g := newGoogle(t, pushtest.FCMConfig{})
	cfg := g.config()
	if got := g.client(cfg).Project(); got != pushtest.DefaultProject {
		t.Errorf("project %q", got)
	}
	cfg.Project = "other-project"
	c := g.client(cfg)
	if c.Project() != "other-project" {
		t.Errorf("project %q", c.Project())
	}
	r := c.Send(callContext(t), ring(g.phone()))
	if r.Outcome != push.ProviderDown || r.Status != 404 || r.Suspect {
		t.Errorf("%+v", r)
	}
}

func TestP28_LogAndReasonsNameNoTokenAndNoPayload(t *testing.T) {
	g := newGoogle(t, pushtest.FCMConfig{})
	var log logs
	c, err := fcm.New(g.config(), log.logger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	phone := g.phone()
	text := ""
	for _, f := range []pushtest.Fault{
		{}, {Status: 400, Reason: "INVALID_ARGUMENT"}, {Status: 503}, {Status: 404, HTML: true}, {Reset: true, Count: 2}, {Status: 401}, {OAuth: true, Status: 400},
	} {
		g.Inject(f)
		n := tell(phone)
		n.Data["from_name"] = "Carol Sekrit"
		r := c.Send(t.Context(), n)
		text += r.Reason
		_, last := c.Health()
		text += last
	}
	text += log.String()
	for _, secret := range []string{phone.Value, phone.Value[len(phone.Value)-20:], "Sekrit", "Bearer", "PRIVATE", "assertion", "ya29"} {
		if strings.Contains(text, secret) {
			t.Errorf("shows %q:\n%s", secret, text)
		}
	}
}
