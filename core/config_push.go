package core

import (
	"slices"
	"time"

	"sallyport/core/push"
	"sallyport/tunnel/unit"
)

// PushConfig holds the apps whose devices can be woken, and how.
type PushConfig struct {
	Enabled bool `toml:"enabled"`
	// Proxy is the egress proxy, http://USER:PASSWORD@HOST:PORT, to all providers.
	Proxy string `toml:"proxy"`
	// NoProxy are hosts reached without it.
	NoProxy []string `toml:"no_proxy"`
	// Keep is how long a note may wait for its device, here and at the provider.
	Keep unit.Duration `toml:"keep"`
	// PerMinute is how many pushes on the Message channel a device may get.
	PerMinute int `toml:"per_minute"`
	// RefuseUnknown answers 555 to a REGISTER that asks for pushes which nothing
	// here can send (RFC 8599 §5.4).
	RefuseUnknown bool `toml:"refuse_unknown"`
	// RefreshMargin is how long before its binding ends a sleeping client is asked
	// to register; 0 is never.
	RefreshMargin unit.Duration `toml:"refresh_margin"`
	Apps          []AppConfig   `toml:"app"`
	Quiet         []QuietConfig `toml:"quiet"`
}

// AppConfig is one app at one push provider.
type AppConfig struct {
	ID       string `toml:"id"`       // bundle id or Android package
	Provider string `toml:"provider"` // apns, fcm or webpush
	// Privacy is how much of a push the provider may read: wake, sender, full or
	// e2e. Empty: e2e for a device that gave a key, else wake.
	Privacy     string `toml:"privacy,omitempty"`
	TeamID      string `toml:"team_id,omitempty"`
	KeyID       string `toml:"key_id,omitempty"` // may be empty where key_file has, or leads to, Apple's name for it
	KeyFile     string `toml:"key_file,omitempty"`
	Environment string `toml:"environment,omitempty"` // production or sandbox
	Endpoint    string `toml:"endpoint,omitempty"`    // another base URL
	CAFile      string `toml:"ca_file,omitempty"`     // PEM that replaces the system's roots
	// ServiceAccount is FCM's JSON file, Project overrides the project in it.
	ServiceAccount string `toml:"service_account,omitempty"`
	Project        string `toml:"project,omitempty"`
	// VAPIDKey is the key file that `sallyport push vapid` made, Subject who
	// answers for the pushes: a mailto: or https: URL (RFC 8292 §2.1).
	VAPIDKey string `toml:"vapid_key,omitempty"`
	Subject  string `toml:"subject,omitempty"`
	// Allow are the hosts, or .suffixes, of push services that may be pushed to;
	// empty: any with a public address.
	Allow []string `toml:"allow,omitempty"`
}

// QuietConfig is when an AOR is not to be disturbed.
type QuietConfig struct {
	AOR      string   `toml:"aor"`  // an AOR, @domain, or * for all
	From     string   `toml:"from"` // HH:MM
	To       string   `toml:"to"`   // HH:MM, may be past midnight
	Days     []string `toml:"days"` // mon to sun, on which it begins; empty: each
	Timezone string   `toml:"timezone"`
	Messages string   `toml:"messages"` // hold, passive or push
	Calls    string   `toml:"calls"`    // ring or missed
	VIP      []string `toml:"vip"`      // AORs and @domains that come through
}

// rules are the quiet hours of a valid config.
func (c *PushConfig) rules() []push.QuietRule {
	var rules []push.QuietRule
	for _, q := range c.Quiet {
		zone, err := time.LoadLocation(q.Timezone)
		if err != nil {
			zone = time.UTC // refused by Validate
		}
		r := push.QuietRule{
			AOR: q.AOR, From: timeOfDay(q.From), To: timeOfDay(q.To), Zone: zone,
			Notes: push.Manner(q.Messages), Ring: q.Calls == "ring", VIP: q.VIP,
		}
		for _, d := range q.Days {
			r.Days = append(r.Days, time.Weekday((slices.Index(weekdays, d)+1)%7)) // weekdays begins on Monday
		}
		rules = append(rules, r)
	}
	return rules
}

// timeOfDay reads "22:00"; "" is midnight.
func timeOfDay(s string) time.Duration {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}
