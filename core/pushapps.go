package core

import (
	"fmt"

	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/fcm"
	"sallyport/core/push/webpush"
)

// senders make, for each provider that is built, the app that a [[push.app]]
// describes.
var senders = map[string]func(s *Server, a AppConfig) (push.App, error){
	push.ProviderAPNs:    (*Server).apnsApp,
	push.ProviderFCM:     (*Server).fcmApp,
	push.ProviderWebPush: (*Server).webpushApp,
}

// apps makes a sender for each app whose provider is built.
func (s *Server) apps() ([]push.App, error) {
	var apps []push.App
	for i, a := range s.cfg.Push.Apps {
		make, ok := senders[a.Provider]
		if !ok {
			continue
		}
		app, err := make(s, a)
		if err != nil {
			return nil, fmt.Errorf("push.app[%d]: %w", i, err)
		}
		app.Privacy = push.Privacy(a.Privacy)
		apps = append(apps, app)
	}
	return apps, nil
}

func (s *Server) apnsApp(a AppConfig) (push.App, error) {
	c, err := apns.New(apns.Config{
		BundleID: a.ID, TeamID: a.TeamID, KeyID: a.KeyID, KeyFile: a.KeyFile, Environment: a.Environment,
		Endpoint: a.Endpoint, CAFile: a.CAFile, Proxy: s.cfg.Push.Proxy, NoProxy: s.cfg.Push.NoProxy,
	}, s.log, s.deps.Registry)
	if err != nil {
		return push.App{}, err
	}
	return push.App{ID: a.ID, Provider: a.Provider, TeamID: a.TeamID, Sender: c, Run: c.Run}, nil
}

func (s *Server) fcmApp(a AppConfig) (push.App, error) {
	c, err := fcm.New(fcm.Config{
		Package: a.ID, ServiceAccount: a.ServiceAccount, Project: a.Project,
		Endpoint: a.Endpoint, CAFile: a.CAFile, Proxy: s.cfg.Push.Proxy, NoProxy: s.cfg.Push.NoProxy,
	}, s.log, s.deps.Registry)
	if err != nil {
		return push.App{}, err
	}
	return push.App{ID: a.ID, Provider: a.Provider, Project: c.Project(), Sender: c, Run: c.Run}, nil
}

func (s *Server) webpushApp(a AppConfig) (push.App, error) {
	c, err := webpush.New(webpush.Config{
		App: a.ID, KeyFile: a.VAPIDKey, Subject: a.Subject, Allow: a.Allow, CAFile: a.CAFile,
		Proxy: s.cfg.Push.Proxy, NoProxy: s.cfg.Push.NoProxy,
	}, s.log, s.deps.Registry)
	if err != nil {
		return push.App{}, err
	}
	return push.App{ID: a.ID, Provider: a.Provider, Sender: c, Run: c.Run}, nil
}

// pushConfig is what the push service is told. secret names conversations.
func (s *Server) pushConfig(secret []byte) push.Config {
	return push.Config{
		Enabled: s.cfg.Push.Enabled, Keep: s.cfg.Push.Keep.Duration, PerMinute: s.cfg.Push.PerMinute,
		Targets: s.target, Outbox: s.store.Outbox(), Sealer: s.vault, Feedback: s.told, Quiet: s.cfg.Push.rules(), DND: s.store.DND(), Secret: secret,
	}
}
