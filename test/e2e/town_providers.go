package e2e

import (
	"context"
	"net"
	"path/filepath"

	"sallyport/core"
	"sallyport/core/push/pushtest"
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
