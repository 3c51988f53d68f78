package e2e

import (
	"context"
	"net"
	"os"
	"path/filepath"

	"sallyport/core"
	"sallyport/core/push/pushtest"
	"sallyport/core/push/webpush"
	"sallyport/test/phone"
)

// startFCM serves the town's FCM and gives its app to the core.
func (t *Town) startFCM(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	t.FCM = pushtest.NewFCM(pushtest.FCMConfig{Log: t.cfg.Log})
	t.run("fcm", func(ctx context.Context) error { return t.FCM.Serve(ctx, l) })
	select {
	case <-t.FCM.Ready():
	case err := <-t.errs:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	caFile, accountFile, err := t.FCM.WriteFiles(filepath.Join(t.cfg.Dir, "fcm"))
	if err != nil {
		return err
	}
	t.core.Push.Apps = append(t.core.Push.Apps, core.AppConfig{
		ID: App, Provider: "fcm", ServiceAccount: accountFile, Endpoint: t.FCM.URL(), CAFile: caFile,
	})
	return nil
}

// FCMOf registers token, from [pushtest.NewFCMToken], as that of an app on
// Android, and is what its phone says of it.
func (t *Town) FCMOf(token string) phone.Push {
	t.FCM.Register(token, pushtest.FCMApp{})
	return phone.RFC8599("fcm", pushtest.DefaultProject, token).Escaped()
}

// startWebPush serves the town's push service and gives the app by it to the
// core, which may push to this address inside since the operator names it.
func (t *Town) startWebPush(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	t.WebPush = pushtest.NewWebPush(pushtest.WebPushConfig{Log: t.cfg.Log})
	t.run("webpush", func(ctx context.Context) error { return t.WebPush.Serve(ctx, l) })
	select {
	case <-t.WebPush.Ready():
	case err := <-t.errs:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	caFile, keyFile := filepath.Join(t.cfg.Dir, "webpush-ca.pem"), filepath.Join(t.cfg.Dir, "vapid.pem")
	key, public, err := webpush.GenerateKey()
	if err != nil {
		return err
	}
	t.VAPID = public
	for path, text := range map[string][]byte{caFile: t.WebPush.CA(), keyFile: key} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
	}
	t.core.Push.Apps = append(t.core.Push.Apps, core.AppConfig{
		ID: App, Provider: "webpush", VAPIDKey: keyFile, Subject: "mailto:ops@" + Domain, CAFile: caFile,
		Allow: []string{l.Addr().String()},
	})
	return nil
}
