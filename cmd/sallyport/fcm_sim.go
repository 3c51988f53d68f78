package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sallyport/core/push/pushtest"
)

// fcmSimCmd is `sallyport fcm-sim`: Google's push service on this machine, to
// try a core and an app without a Firebase project.
type fcmSimCmd struct {
	Listen  string `default:"127.0.0.1:2201" help:"Where pushes and requests for access tokens are taken (HTTPS)."`
	Dir     string `required:"" type:"path" help:"Where ca.pem and a new service-account.json are written."`
	Control string `help:"Where the control API listens, such as 127.0.0.1:2202; empty: nowhere."`
	Project string `default:"sallyport-sim" help:"The project's id."`
	Strict  bool   `help:"Take only registration tokens that were registered by the control API."`

	MaxStreams   uint32        `default:"100" help:"Requests at a time on a connection."`
	ConnRequests int           `placeholder:"N" help:"Requests after which each connection is told to end; 0: any number."`
	PerMinute    int           `default:"600000" help:"The project's quota of messages in a minute."`
	TokenLife    time.Duration `default:"1h" help:"How long an access token lives."`
	RetryAfter   time.Duration `help:"Retry-After beside --status and when a quota is used up; 0: none."`
	Delivered    bool          `help:"Messages that get --status are delivered all the same, as was seen with 503."`
	OauthStatus  int           `placeholder:"CODE" help:"Answer requests for access tokens with this HTTP status."`
	simFaults
}

// Validate is kong's: it reports flags that make no sense.
func (c *fcmSimCmd) Validate() error {
	switch {
	case c.MaxStreams == 0, c.PerMinute < 1, c.ConnRequests < 0:
		return errors.New("--max-streams, --per-minute: must be positive; --conn-requests: must not be negative")
	case c.TokenLife < time.Second || c.RetryAfter < 0:
		return errors.New("--token-life: must be a second or more; --retry-after: must not be negative")
	case c.OauthStatus != 0 && (c.OauthStatus < 400 || c.OauthStatus > 599):
		return fmt.Errorf("--oauth-status: must be from 400 to 599 (got %d)", c.OauthStatus)
	}
	return c.simFaults.Validate()
}

// Run serves until it is interrupted.
func (c *fcmSimCmd) Run(con *console) error { return c.serve(con.ctx, con.out) }

// serve prints a line for each message, refused ones included.
func (c *fcmSimCmd) serve(ctx context.Context, out io.Writer) error {
	printed := &lines{out: out}
	sim := pushtest.NewFCM(pushtest.FCMConfig{
		Project: c.Project, MaxStreams: c.MaxStreams, GoAwayAfter: c.ConnRequests, AnyToken: !c.Strict,
		PerMinute: c.PerMinute, RetryAfter: c.RetryAfter, TokenLife: c.TokenLife,
	})
	sim.OnAnswer = func(m pushtest.FCMMessage) { printed.print(m) }
	if c.OauthStatus != 0 {
		sim.Inject(pushtest.Fault{OAuth: true, Status: c.OauthStatus, Reason: "internal_failure", Count: c.count()})
	}
	return (&simRun{
		name: "fcm-sim", sim: sim, listen: c.Listen, control: c.Control, faults: c.simFaults,
		routes: "GET /pushes, /deliveries, /violations, /stats; POST /tokens, /shown, /faults",
		fault:  pushtest.Fault{RetryAfter: int(c.RetryAfter.Seconds()), Delivered: c.Delivered},
		help: func(addr net.Addr) (string, error) {
			ca, account, err := sim.WriteFiles(c.Dir)
			return fmt.Sprintf(fcmSimHelp, addr, c.Project, account, addr, ca), err
		},
	}).serve(ctx, out)
}

// fcmSimHelp is the section of core.toml that sends pushes here.
const fcmSimHelp = `# FCM simulator on %s; for core.toml:
[[push.app]]
id = "org.example.phone"
provider = "fcm"
project = %q
service_account = %q
endpoint = "https://%s"
ca_file = %q
`
