package core

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/webpush"
)

// minRefreshMargin is what RFC 8599 §5.5 recommends at least.
const minRefreshMargin = 2 * time.Minute

func (c *Config) validatePush(f *faults) {
	p := c.Push
	if p.Proxy != "" {
		if u, err := url.Parse(p.Proxy); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			f.add("push.proxy", "must be http://host:port") // never repeated: it may hold a password
		}
	}
	if p.Keep.Duration <= 0 || p.Keep.Duration > 28*24*time.Hour {
		f.add("push.keep", "must be more than 0s and at most 672h, which is the most that a provider keeps (got %v)", p.Keep)
	}
	if p.PerMinute < 1 {
		f.add("push.per_minute", "must be at least 1 (got %d)", p.PerMinute)
	}
	if m := p.RefreshMargin.Duration; m != 0 && m < minRefreshMargin {
		f.add("push.refresh_margin", "must be 0s (never) or at least 2m (got %v)", p.RefreshMargin)
	}
	for i := range p.Apps {
		p.Apps[i].validate(f, fmt.Sprintf("push.app[%d]", i))
	}
	for i := range p.Quiet {
		p.Quiet[i].validate(f, fmt.Sprintf("push.quiet[%d]", i))
	}
}

// privacies are the levels of push.app.privacy.
var privacies = []string{"", "wake", "sender", "full", "e2e"}

// appFaults check what each provider needs.
var appFaults = map[string]func(a *AppConfig, f *faults, at string){
	"apns": func(a *AppConfig, f *faults, at string) {
		for key, v := range map[string]string{"team_id": a.TeamID, "key_file": a.KeyFile} {
			if v == "" {
				f.add(at+"."+key, "is needed for apns")
			}
		}
		if e := a.Environment; e != "" && e != "production" && e != "sandbox" {
			f.add(at+".environment", "must be production or sandbox (got %q)", e)
		}
	},
	"fcm": func(a *AppConfig, f *faults, at string) {
		if a.ServiceAccount == "" {
			f.add(at+".service_account", "is needed for fcm")
		}
	},
	"webpush": func(a *AppConfig, f *faults, at string) {
		if a.VAPIDKey == "" {
			f.add(at+".vapid_key", "is needed for webpush: make one with `sallyport push vapid`")
		}
		if err := webpush.CheckSubject(a.Subject); err != nil {
			f.add(at+".subject", "%v", err)
		}
		for _, entry := range a.Allow {
			if err := webpush.CheckAllow(entry); err != nil {
				f.add(at+".allow", "%v", err)
			}
		}
	},
}

func (a *AppConfig) validate(f *faults, at string) {
	if a.ID == "" {
		f.add(at+".id", "must be the bundle id or package")
	}
	if !slices.Contains(privacies, a.Privacy) {
		f.add(at+".privacy", "must be wake, sender, full or e2e (got %q)", a.Privacy)
	}
	check, ok := appFaults[a.Provider]
	if !ok {
		f.add(at+".provider", "must be apns, fcm or webpush (got %q)", a.Provider)
		return
	}
	check(a, f, at)
}

var weekdays = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

func (q *QuietConfig) validate(f *faults, at string) {
	if !push.NamesSomebody(q.AOR) {
		f.add(at+".aor", "must be an AOR, @domain, or * for all (got %q)", q.AOR)
	}
	for _, who := range q.VIP {
		if !push.NamesSomebody(who) {
			f.add(at+".vip", "must be AORs or @domains (got %q)", who)
		}
	}
	for key, v := range map[string]string{"from": q.From, "to": q.To} {
		if v == "" && q.From == q.To {
			continue // always
		}
		if _, err := time.Parse("15:04", v); err != nil {
			f.add(at+"."+key, "must be a time such as 22:00 (got %q)", v)
		}
	}
	for _, d := range q.Days {
		if !slices.Contains(weekdays, d) {
			f.add(at+".days", "must be of mon, tue, wed, thu, fri, sat, sun (got %q)", d)
		}
	}
	if _, err := time.LoadLocation(q.Timezone); err != nil || q.Timezone == "Local" {
		f.add(at+".timezone", "must be a name such as Europe/Berlin (got %q)", q.Timezone)
	}
	if !slices.Contains([]string{"", "hold", "passive", "push"}, q.Messages) {
		f.add(at+".messages", "must be hold, passive or push (got %q)", q.Messages)
	}
	if !slices.Contains([]string{"", "ring", "missed"}, q.Calls) {
		f.add(at+".calls", "must be ring or missed (got %q)", q.Calls)
	}
}
