package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"sallyport/core/push/pushtest"
)

// webpushSimCmd is `sallyport webpush-sim`: a push service for Web Push and
// UnifiedPush on this machine, with a user agent behind it that opens what it
// is sent.
type webpushSimCmd struct {
	Listen  string   `default:"127.0.0.1:2203" help:"Where pushes are taken (HTTPS)."`
	Dir     string   `required:"" type:"path" help:"Where ca.pem, a new vapid.pem and a subscription.json bound to it are written."`
	Control string   `help:"Where the control API listens, such as 127.0.0.1:2204; empty: nowhere."`
	Host    []string `placeholder:"NAME" help:"Names in the certificate, beside localhost's."`

	MaxStreams   uint32        `default:"100" help:"Requests at a time on a connection."`
	ConnRequests int           `placeholder:"N" help:"Requests after which each connection is told to end; 0: any number."`
	MaxBody      int           `default:"4096" help:"The largest body taken, in bytes."`
	MaxTTL       time.Duration `name:"max-ttl" default:"672h" help:"How long a message is kept at most."`
	PerMinute    int           `placeholder:"N" help:"Messages that a subscription takes in a minute; 0: any number."`
	RetryAfter   time.Duration `help:"Retry-After beside --status; 0: none."`
	Delivered    bool          `help:"Messages that get --status are delivered all the same."`
	Redirect     string        `placeholder:"URL" help:"Answer right pushes with a redirect to this address, by 307 or --status."`
	simFaults
}

// Validate is kong's: it reports flags that make no sense.
func (c *webpushSimCmd) Validate() error {
	switch {
	case c.MaxStreams == 0, c.ConnRequests < 0, c.PerMinute < 0:
		return errors.New("--max-streams: must be positive; --conn-requests, --per-minute: must not be negative")
	case c.MaxBody < 4096 || c.MaxBody > 65536:
		return fmt.Errorf("--max-body: must be from 4096, the least that RFC 8030 §7.2 allows, to 65536 (got %d)", c.MaxBody)
	case c.MaxTTL < time.Second || c.RetryAfter < 0:
		return errors.New("--max-ttl: must be a second or more; --retry-after: must not be negative")
	}
	if u, err := url.Parse(c.Redirect); c.Redirect != "" && (err != nil || !u.IsAbs()) {
		return fmt.Errorf("--redirect: must be a URL such as https://example.com/ (got %q)", c.Redirect)
	}
	return c.simFaults.Validate()
}

// Run serves until it is interrupted.
func (c *webpushSimCmd) Run(con *console) error { return c.serve(con.ctx, con.out) }

// serve prints a line for each message, refused ones included.
func (c *webpushSimCmd) serve(ctx context.Context, out io.Writer) error {
	printed := &lines{out: out}
	sim := pushtest.NewWebPush(pushtest.WebPushConfig{
		Hosts: c.Host, MaxStreams: c.MaxStreams, GoAwayAfter: c.ConnRequests, MaxBody: c.MaxBody,
		MaxTTL: c.MaxTTL, PerMinute: c.PerMinute,
	})
	sim.OnAnswer = func(m pushtest.WebPushMessage) { printed.print(m) }
	return (&simRun{
		name: "webpush-sim", sim: sim, listen: c.Listen, control: c.Control, faults: c.simFaults,
		routes: "GET /pushes, /violations, /stats; POST /subscriptions, /faults",
		fault:  pushtest.Fault{RetryAfter: int(c.RetryAfter.Seconds()), Delivered: c.Delivered, Location: c.Redirect},
		help: func(addr net.Addr) (string, error) {
			ca, key, subscription, err := sim.WriteFiles(c.Dir)
			return fmt.Sprintf(webpushSimHelp, addr, subscription, key, addr, ca), err
		},
	}).serve(ctx, out)
}

// webpushSimHelp is the section of core.toml that sends pushes here.
const webpushSimHelp = `# WebPush simulator on %s; a subscription: %s; for core.toml:
[[push.app]]
id = "web"
provider = "webpush"
vapid_key = %q
subject = "mailto:ops@example.com"
allow = ["%s"]
ca_file = %q
`
