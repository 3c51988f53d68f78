package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"sallyport/core"
	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/fcm"
	"sallyport/core/push/webpush"
)

// appChecks check an app by its provider: the credentials, and the first
// connection on the way.
var appChecks = map[string]func(k *checker, what string, a core.AppConfig, cfg core.PushConfig){
	push.ProviderAPNs:    (*checker).apnsApp,
	push.ProviderFCM:     (*checker).fcmApp,
	push.ProviderWebPush: (*checker).webpushApp,
}

func (k *checker) pushApps(cfg core.PushConfig) {
	switch {
	case !cfg.Enabled:
		k.remark("push", "", "is switched off: sleeping phones are not woken")
		return
	case len(cfg.Apps) == 0:
		k.remark("push", "add a [[push.app]] for your app", "no app is named: sleeping phones are not woken")
	}
	for _, a := range cfg.Apps {
		what := fmt.Sprintf("push.app %s", a.Provider)
		if check, ok := appChecks[a.Provider]; ok {
			check(k, what, a, cfg)
			continue
		}
		k.remark(what, "", "%s: this version does not push by %s", a.ID, a.Provider)
	}
}

func (k *checker) apnsApp(what string, a core.AppConfig, cfg core.PushConfig) {
	_, err := apns.New(apns.Config{
		BundleID: a.ID, TeamID: a.TeamID, KeyID: a.KeyID, KeyFile: a.KeyFile,
		Environment: a.Environment, Endpoint: a.Endpoint, CAFile: a.CAFile, Proxy: cfg.Proxy, NoProxy: cfg.NoProxy,
	}, nil, nil)
	if err != nil {
		k.fail(what, "the key is the .p8 file from Apple's developer account, key_id stands beside it there", "%s: %v", a.ID, err)
		return
	}
	k.private(what, a.KeyFile)
	addr := pushAddr(a, cfg)
	if conn, ok := k.reaches(what, addr, "let the firewall pass it, or set push.proxy"); ok {
		conn.Close()
		k.ok(what, "%s: the key is good, and %s takes connections", a.ID, addr)
	}
}

// fcmApp goes the whole way, which an access token of Google's is needed for:
// FCM looks at a message to nobody, and delivers nothing.
func (k *checker) fcmApp(what string, a core.AppConfig, cfg core.PushConfig) {
	c, err := fcm.New(fcm.Config{
		Package: a.ID, ServiceAccount: a.ServiceAccount, Project: a.Project, Endpoint: a.Endpoint, CAFile: a.CAFile,
		Proxy: cfg.Proxy, NoProxy: cfg.NoProxy,
		Dial: func(ctx context.Context, _, addr string) (net.Conn, error) { return k.net.Dial(ctx, addr) },
	}, nil, nil)
	if err != nil {
		k.fail(what, "the service account's key is a JSON file from the Google Cloud console: IAM, Service accounts, Keys", "%s: %v", a.ID, err)
		return
	}
	defer c.Close()
	k.private(what, a.ServiceAccount)
	ctx, cancel := context.WithTimeout(k.ctx, lookWithin)
	defer cancel()
	switch t := c.Try(ctx); {
	case t == nil:
		k.ok(what, "%s: FCM takes the service account for project %s", a.ID, c.Project())
	case t.Remedy == "":
		k.fail(what, "let the firewall pass fcm.googleapis.com:443 and oauth2.googleapis.com:443, or set push.proxy", "%s: %s", a.ID, t.Text)
	default:
		k.fail(what, t.Remedy, "%s: %s", a.ID, t.Text)
	}
}

// webpushApp connects to the proxy, or to each push service that allow names
// whole: which others there are only browsers know.
func (k *checker) webpushApp(what string, a core.AppConfig, cfg core.PushConfig) {
	_, err := webpush.New(webpush.Config{
		App: a.ID, KeyFile: a.VAPIDKey, Subject: a.Subject, Allow: a.Allow, CAFile: a.CAFile,
		Proxy: cfg.Proxy, NoProxy: cfg.NoProxy,
	}, nil, nil)
	if err != nil {
		k.fail(what, "make the key with `sallyport push vapid --out FILE`, and let the core read it", "%s: %v", a.ID, err)
		return
	}
	k.private(what, a.VAPIDKey)
	var addrs []string
	for _, entry := range a.Allow {
		if strings.HasPrefix(entry, ".") {
			continue
		}
		if _, _, err := net.SplitHostPort(entry); err != nil {
			entry = net.JoinHostPort(strings.Trim(entry, "[]"), "443")
		}
		addrs = append(addrs, firstHop("https://"+entry, cfg))
	}
	if len(addrs) == 0 && cfg.Proxy != "" {
		addrs = []string{firstHop(cfg.Proxy, core.PushConfig{})}
	}
	for _, addr := range addrs {
		conn, ok := k.reaches(what, addr, "let the firewall pass it, or set push.proxy")
		if !ok {
			return
		}
		conn.Close()
		k.ok(what, "%s takes connections", addr)
	}
	k.ok(what, "%s: the key is good", a.ID)
}

// pushAddr is where the first connection on the way to Apple goes.
func pushAddr(a core.AppConfig, cfg core.PushConfig) string {
	base := "https://api.push.apple.com"
	switch {
	case a.Endpoint != "":
		base = a.Endpoint
	case a.Environment == "sandbox":
		base = "https://api.sandbox.push.apple.com"
	}
	return firstHop(base, cfg)
}

// firstHop is where the first connection on the way to a base URL goes.
func firstHop(base string, cfg core.PushConfig) string {
	u, err := url.Parse(base)
	if err != nil {
		return base // the dial names it
	}
	if through, err := push.ProxyFunc(cfg.Proxy, cfg.NoProxy); err == nil && through != nil {
		if proxy, err := through(&http.Request{URL: u}); err == nil && proxy != nil {
			u = proxy
		}
	}
	if u.Port() != "" {
		return u.Host
	}
	port := "443"
	if u.Scheme == "http" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
