package fcm_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"sallyport/core/push"
	"sallyport/core/push/fcm"
	"sallyport/core/push/pushtest"
)

func TestTryFindsWhatKeepsPushesFromBeingSent(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		refused := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") }
		for name, want := range map[string]struct {
			change func(*fcm.Config)
			kind   string
			remedy string
		}{
			"all is well": {},
			"no way":      {change: func(c *fcm.Config) { c.Dial = refused }, kind: push.TroubleNetwork},
			"a wrong key": {change: account(t, map[string]any{"private_key_id": "x"}), kind: push.TroubleAuth, remedy: "still valid"},
			"no project":  {change: func(c *fcm.Config) { c.Project = "other" }, kind: push.TroubleConfig, remedy: "is project the id"},
		} {
			cfg := g.config()
			if want.change != nil {
				want.change(&cfg)
			}
			tr := g.client(cfg).Try(t.Context())
			if (tr == nil) != (want.kind == "") || tr != nil && (tr.Kind != want.kind || !strings.Contains(tr.Remedy, want.remedy)) {
				t.Errorf("%s: %+v", name, tr)
			}
		}
		if n := len(g.Accepted()); n != 0 {
			t.Errorf("%d pushes were delivered", n)
		}
		g.clean()
	})
}
