package push

import (
	"context"
	"fmt"
	"strings"
	"sync"
)

// App is one app at one provider, with the credentials that reach it. Two
// apps never share a Sender, nor therefore a connection.
type App struct {
	ID       string  // bundle id or Android package
	Provider string  // ProviderAPNs, ProviderFCM or ProviderWebPush
	TeamID   string  // Apple's team; "" fits any
	Project  string  // FCM's project, which a client names in pn-param
	Privacy  Privacy // how much of its pushes is shown
	Sender   Sender
	// Run does what the Sender needs done in the background until ctx ends, and
	// leaves nothing behind; nil if nothing. [Service.Run] runs it.
	Run func(ctx context.Context) error
}

// suffixes are what pn-param carries behind the bundle id: the services the
// client wants, in either order (RFC 8599 §10.2 and Linphone's two tokens).
var suffixes = []string{".voip&remote", ".remote&voip", ".voip", ".remote"}

// cutServices takes the services off an Apple pn-param.
func cutServices(param string) string {
	for _, s := range suffixes {
		if at := len(param) - len(s); at >= 0 && strings.EqualFold(param[at:], s) {
			return param[:at]
		}
	}
	return param
}

// fitsApple compares an Apple pn-param, TEAM.bundle.id.services, where the
// team ends at the first dot. Parameters older than RFC 8599 name no team, and
// fit by the id alone.
func fitsApple(app *App, t Token) (ok bool, reason string) {
	whole := cutServices(t.Param)
	team, id, _ := strings.Cut(whole, ".")
	switch {
	case id == app.ID && (app.TeamID == "" || team == app.TeamID):
		return true, ""
	case id == app.ID:
		return false, fmt.Sprintf("team %q is not team_id %q of app %s", clip(team), app.TeamID, app.ID)
	case whole == app.ID, t.Param == "" && t.App == app.ID:
		return true, ""
	default:
		return t.App == app.ID && strings.HasPrefix(t.Param, app.ID+"."), ""
	}
}

// matchers decide, for each provider, whether app is the one that t names. A
// reason is given only where the app is nearly the right one.
var matchers = map[string]func(app *App, t Token) (ok bool, reason string){
	ProviderAPNs: fitsApple,
	ProviderFCM: func(app *App, t Token) (bool, string) {
		return app.Project != "" && t.Param == app.Project || t.App == app.ID, ""
	},
	// WebPush names no app: the token is an address (RFC 8599 §12).
	ProviderWebPush: func(*App, Token) (bool, string) { return true, "" },
}

// fit finds the app that t belongs to, or says why there is none.
func fit(apps []App, t Token) (*App, string) {
	match, known := matchers[t.Provider]
	if !known {
		return nil, fmt.Sprintf("push provider %q is not one of apns, fcm, webpush", clip(t.Provider))
	}
	near := ""
	for i := range apps {
		if apps[i].Provider != t.Provider {
			continue
		}
		ok, reason := match(&apps[i], t)
		if ok {
			return &apps[i], ""
		}
		if reason != "" {
			near = reason
		}
	}
	if near != "" {
		return nil, near
	}
	name := t.Param
	if name == "" {
		name = t.App
	}
	return nil, fmt.Sprintf("no [[push.app]] with provider %q fits pn-param %q", t.Provider, clip(name))
}

// clip keeps what a client sent from filling a log line.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// once remembers what was said, up to a bound: clients choose what they
// name, and a hostile one names something new each time.
type once struct {
	mu   sync.Mutex
	said map[string]struct{} // guarded by mu
}

// maxSaid bounds the memory of once. Beyond it nothing more is said.
const maxSaid = 256

// first reports whether s was not said before.
func (o *once) first(s string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.said[s]; ok || len(o.said) >= maxSaid {
		return false
	}
	if o.said == nil {
		o.said = make(map[string]struct{})
	}
	o.said[s] = struct{}{}
	return true
}
