package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sallyport/core"
	"sallyport/core/push/pushtest"
)

func TestCheckLetsFCMLookAtAMessageToNobody(t *testing.T) {
	sim := pushtest.NewFCM(pushtest.FCMConfig{})
	l := pushtest.NewListener()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = sim.Serve(ctx, l) })
	defer wg.Wait()
	defer cancel()
	<-sim.Ready()
	ca, account, err := sim.WriteFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(sim.URL(), "https://")
	reached := map[string]func() (net.Conn, error){addr: func() (net.Conn, error) { return l.Dial(ctx, "tcp", addr) }}
	for want, test := range map[string]struct {
		app  core.AppConfig
		dial map[string]func() (net.Conn, error)
	}{
		"ok    push.app fcm                 org.example.phone: FCM takes the service account for project " + pushtest.DefaultProject: {
			core.AppConfig{ServiceAccount: account}, reached},
		"-> is project the id of the app's Firebase project?":                               {core.AppConfig{ServiceAccount: account, Project: "other"}, reached},
		"-> let the firewall pass fcm.googleapis.com:443 and oauth2.googleapis.com:443":     {core.AppConfig{ServiceAccount: account}, nil},
		"-> the service account's key is a JSON file from the Google Cloud console":         {core.AppConfig{ServiceAccount: broken}, reached},
		"broken.json: type is \"\", must be \"service_account\": a google-services.json or": {core.AppConfig{ServiceAccount: broken}, reached},
	} {
		test.app.ID, test.app.Provider, test.app.Endpoint, test.app.CAFile = "org.example.phone", "fcm", sim.URL(), ca
		out, _ := checkOutput(t, &fakeNet{dial: test.dial}, func(k *checker) {
			k.pushApps(core.PushConfig{Enabled: true, Apps: []core.AppConfig{test.app}})
		})
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	if n := len(sim.Accepted()); n != 0 {
		t.Errorf("%d pushes were delivered", n)
	}
}
