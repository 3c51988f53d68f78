package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sallyport/core/push/pushtest"
	"sallyport/test/e2e"
	"sallyport/test/phone"
)

// demoCmd is `sallyport demo`: the whole of Sallyport in one process.
type demoCmd struct {
	Hold bool `help:"Keep it running, and print how to point a real client at it."`
}

// Run plays the demo. It fails unless Bob was pushed once, answered, and the
// call ended with BYE.
func (c *demoCmd) Run(con *console) error { return playDemo(con.ctx, con.out, c.Hold) }

// demoTime bounds the story, not the hold after it.
const demoTime = 30 * time.Second

func playDemo(ctx context.Context, out io.Writer, hold bool) (err error) {
	dir, err := os.MkdirTemp("", "sallyport-demo-")
	if err != nil {
		return err
	}
	town, err := e2e.New(e2e.Config{Dir: dir, Users: []string{"alice", "bob"}})
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, town.Remove()) }()
	defer town.Close()
	d := &demo{out: out, town: town, start: time.Now()}
	story, cancel := context.WithTimeout(ctx, demoTime)
	defer cancel()
	if err := d.play(story); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if hold {
		d.pointers()
		<-ctx.Done()
	}
	return nil
}

// demo is one telling of the story.
type demo struct {
	out   io.Writer
	town  *e2e.Town
	start time.Time

	alice, bob *phone.Phone
}

// say prints a step with the time since the start.
func (d *demo) say(who, format string, args ...any) {
	ms := float64(time.Since(d.start).Microseconds()) / 1000
	fmt.Fprintf(d.out, "%9.1f ms  %-5s  %s\n", ms, who, fmt.Sprintf(format, args...))
}

func (d *demo) play(ctx context.Context) error {
	if err := d.town.Start(ctx); err != nil {
		return err
	}
	d.say("edge", "listens for SIP over TLS on %s and for WebSocket on wss://%s/ws", d.town.SIPS, d.town.HTTPS)
	d.say("core", "has dialled the edge; its domain is %s", e2e.Domain)
	var err error
	if d.alice, err = d.online(ctx, "alice", phone.WSS); err != nil {
		return err
	}
	defer d.alice.Close()
	if d.bob, err = d.online(ctx, "bob", phone.TLS); err != nil {
		return err
	}
	defer d.bob.Close()
	d.bob.Sleep()
	d.say("bob", "goes to the background: his connection is closed")
	if err := d.call(ctx); err != nil {
		return err
	}
	if n := len(d.town.APNs.Accepted()); n != 1 {
		return fmt.Errorf("bob was pushed %d times, want once", n)
	}
	if v := d.town.APNs.Violations(); len(v) > 0 {
		return fmt.Errorf("the push broke a rule of Apple's: %s", v[0])
	}
	d.say("", "done: pushed once, answered, hung up")
	return nil
}

// online registers a phone of user.
func (d *demo) online(ctx context.Context, user string, tr phone.Transport) (*phone.Phone, error) {
	p := d.town.Phone(user, e2e.Domain, tr)
	if err := p.Connect(ctx); err != nil {
		return nil, err
	}
	if _, err := p.Register(ctx, phone.Registration{Push: d.town.PushOf(user), RegID: 1}); err != nil {
		p.Close()
		return nil, err
	}
	d.say(user, "registered over %s, with a push token", tr)
	return p, nil
}

// call has Alice call Bob, who sleeps.
func (d *demo) call(ctx context.Context) error {
	d.say("alice", "calls sip:bob@%s", e2e.Domain)
	call, err := d.alice.Call(ctx, "sip:bob@"+e2e.Domain)
	if err != nil {
		return err
	}
	push, err := d.push(ctx)
	if err != nil {
		return err
	}
	d.say("apple", "accepted a %s push for topic %s", push.PushType, push.Topic)
	if err := d.bob.Connect(ctx); err != nil {
		return err
	}
	if _, err := d.bob.Register(ctx, phone.Registration{Push: d.town.PushOf("bob"), RegID: 1}); err != nil {
		return err
	}
	d.say("bob", "woke up and registered again")
	in, err := d.incoming(ctx)
	if err != nil {
		return err
	}
	d.say("bob", "has the INVITE, and rings")
	if err := in.Ring(); err != nil {
		return err
	}
	if _, err := call.Wait(ctx, 180); err != nil {
		return err
	}
	d.say("alice", "hears it ring")
	answered, err := in.Answer()
	if err != nil {
		return err
	}
	if err := errors.Join(call.Answered(ctx), answered.WaitAck(ctx)); err != nil {
		return err
	}
	d.say("bob", "answered; the call is up")
	if err := errors.Join(call.Bye(ctx), answered.WaitBye(ctx)); err != nil {
		return err
	}
	d.say("alice", "hung up")
	return nil
}

// push waits for the push that the simulator accepts.
func (d *demo) push(ctx context.Context) (pushtest.Push, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if p := d.town.APNs.Accepted(); len(p) > 0 {
			return p[0], nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return pushtest.Push{}, errors.New("no push reached the provider")
		}
	}
}

func (d *demo) incoming(ctx context.Context) (*phone.Incoming, error) {
	select {
	case in := <-d.bob.Calls():
		return in, nil
	case <-ctx.Done():
		return nil, errors.New("the INVITE did not reach bob")
	}
}

// pointers tells how to join with a real client.
func (d *demo) pointers() {
	fmt.Fprintf(d.out, `
It keeps running until you press Ctrl-C. Join with a client of your own, as
alice (password %[1]s) or bob (password %[2]s):

  Linphone   Username alice, domain %[3]s, SIP proxy <sip:%[4]s;transport=tls>
             Trust %[6]s in its settings, or turn server certificate checks off.
  baresip    in ~/.baresip/accounts:
             <sip:alice@%[3]s;transport=tls>;auth_pass=%[1]s;outbound="sip:%[4]s;transport=tls"
             in ~/.baresip/config:  sip_cafile %[6]s
  JsSIP      new JsSIP.WebSocketInterface("wss://%[5]s/ws")
             uri "sip:alice@%[3]s", password %[1]q
             Open https://%[5]s/ once in the browser and accept the certificate.

Status:      sallyport status --core http://%[7]s
`, e2e.Password("alice"), e2e.Password("bob"), e2e.Domain, d.town.SIPS, d.town.HTTPS, d.town.RootsFile(), d.town.Admin)
}
