package xmpp

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	// long asks for the whole ordeals: `make im-soak`.
	long = flag.Bool("long", false, "tell the long stories too")
	// ordealSeed makes one run again as it was.
	ordealSeed = flag.Uint64("seed", 0, "of an ordeal's chances; 0 takes one by chance")
	runs       = flag.Int("runs", 10, "of each long ordeal")
)

// takesLong skips a story unless it was asked for.
func takesLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("takes long: make im-soak")
	}
}

// ordeal is what a client goes through that must get each message exactly once:
// connections that are reset, logins too, and a core that is killed.
type ordeal struct {
	messages, resets int
	oneWay           bool   // nothing comes from the client that is reset
	told             bool   // what goes wrong is told, and no error
	cutLogins        bool   // every fifth login is reset on its way as well
	kills            int    // of the core
	kill             func() // ends it and starts it anew
	back             time.Duration
}

// chance is a time of up to 60 ms.
func chance(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(60 * time.Millisecond))) }

// numbers hears messages that are numbered, from one sender, in one run: what a
// run that failed left behind is not heard.
type numbers struct {
	from string // bare JID
	run  string
	got  []int
	seen map[int]bool
}

func hearsFrom(jid, run string) *numbers {
	return &numbers{from: jid, run: run, seen: make(map[int]bool)}
}

// heard is a ClientConfig.Heard.
func (n *numbers) heard(s *Stanza) bool {
	text, ok := strings.CutPrefix(s.Body(), n.run+" ")
	if s.Name != "message" || bare(s.From()) != n.from || !ok {
		return false
	}
	i, err := strconv.Atoi(text)
	if err != nil {
		return false
	}
	n.got = append(n.got, i)
	n.seen[i] = true
	return true
}

// verdict counts what went wrong with the messages 0 to want-1.
func (n *numbers) verdict(want int) error {
	highest, inverted := -1, 0
	known := make(map[int]bool)
	var late []int
	for _, i := range n.got {
		if !known[i] && i < highest {
			inverted++
			late = append(late, i)
		}
		known[i] = true
		highest = max(highest, i)
	}
	var missing []int
	for i := range want {
		if !known[i] {
			missing = append(missing, i)
		}
	}
	doubled := len(n.got) - len(known)
	if len(missing)+doubled+inverted == 0 {
		return nil
	}
	const few = 20
	return fmt.Errorf("of %d from %s %d are missing %v, %d doubled, %d out of order %v", want, n.from,
		len(missing), missing[:min(few, len(missing))], doubled, inverted, late[:min(few, len(late))])
}

// run has alice and bob write to each other while bob goes through it.
func (o ordeal) run(t *testing.T, ctx context.Context, alice, bob *Client, heardByAlice, heardByBob *numbers) {
	t.Helper()
	seed := *ordealSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("-seed %d", seed)
	start := time.Now()
	turns := make(chan struct{}, o.resets+1)
	senders := make(chan error, 2)
	toBob, toAlice := bob.JID(), alice.JID()
	per := (o.messages + o.resets) / (o.resets + 1)
	go func() { senders <- o.send(alice, toBob, heardByBob.run, per, turns, rand.New(rand.NewPCG(seed, 1))) }()
	back := make(chan struct{}, o.resets+1)
	go func() {
		if o.oneWay {
			senders <- nil
			return
		}
		senders <- o.send(bob, toAlice, heardByAlice.run, per, back, rand.New(rand.NewPCG(seed, 2)))
	}()
	slowest, slowestAt := time.Duration(0), 0
	killAt := r.Perm(o.resets)[:o.kills]
	for i := range o.resets {
		turns <- struct{}{}
		back <- struct{}{}
		pause(ctx, chance(r))
		if slices.Contains(killAt, i) {
			o.kill()
			if r.IntN(2) == 0 { // the client sees it, and is not reset besides
				_ = bob.Ended(ctx)
			}
		}
		bob.Reset()
		pause(ctx, chance(r))
		if o.cutLogins && i%5 == 0 {
			cut, cancel := context.WithTimeout(ctx, chance(r))
			_ = bob.Resume(cut) // may be done in time
			cancel()
			bob.Reset()
		}
		began := time.Now()
		if err := o.resume(ctx, bob); err != nil {
			t.Fatalf("after reset %d: %v", i, err)
		}
		if took := time.Since(began); took > slowest {
			slowest, slowestAt = took, i
		}
	}
	close(turns)
	close(back)
	must(t, errors.Join(<-senders, <-senders))
	o.settle(t, ctx, alice, bob, heardByAlice, heardByBob)
	t.Logf("%d messages, %d resets, %d kills in %v; the slowest return, after reset %d, took %v", o.messages, o.resets, o.kills,
		time.Since(start).Round(time.Millisecond), slowestAt, slowest.Round(time.Millisecond))
}

// send sends the numbers, some in each turn.
func (o ordeal) send(from *Client, to, run string, per int, turns <-chan struct{}, r *rand.Rand) error {
	sent := 0
	for range turns {
		for range min(per, o.messages-sent) {
			if err := sendNumber(from, to, run, sent); err != nil {
				return err
			}
			sent++
			if r.IntN(4) == 0 {
				pause(context.Background(), time.Duration(r.Int64N(int64(2*time.Millisecond))))
			}
		}
	}
	for ; sent < o.messages; sent++ {
		if err := sendNumber(from, to, run, sent); err != nil {
			return err
		}
	}
	return nil
}

func sendNumber(from *Client, to, run string, i int) error {
	_, err := from.Message(to, run+" "+strconv.Itoa(i))
	return err
}

// resume comes back, as often as it takes while the core starts.
func (o ordeal) resume(ctx context.Context, c *Client) error {
	for deadline := time.Now().Add(o.back); ; pause(ctx, 20*time.Millisecond) {
		err := c.Resume(ctx)
		if refused := (*NotResumed)(nil); err == nil || errors.As(err, &refused) || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
	}
}

// settle waits until everything has come, and what came twice too.
func (o ordeal) settle(t *testing.T, ctx context.Context, alice, bob *Client, heardByAlice, heardByBob *numbers) {
	t.Helper()
	all, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	fromBob := o.messages
	if o.oneWay {
		fromBob = 0
	}
	errs := errors.Join(
		bob.wait(all, "all messages", func() bool { return len(heardByBob.seen) == o.messages }),
		alice.wait(all, "all messages", func() bool { return len(heardByAlice.seen) == fromBob }),
	)
	for range 2 {
		errs = errors.Join(errs, bob.Ping(ctx), alice.Ping(ctx))
	}
	if errs = errors.Join(errs, heardByBob.verdict(o.messages), heardByAlice.verdict(fromBob)); errs != nil && o.told {
		t.Log(errs)
	} else if errs != nil {
		t.Error(errs)
	}
}

// pause lets real time pass: it is what the ordeal is about.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pair are two clients who hear each other's numbers, connected and available:
// alice at the server itself, bob where the caller says.
func pair(t *testing.T, ctx context.Context, s *Server, change func(*ClientConfig)) (alice, bob *Client, heardByAlice, heardByBob *numbers) {
	t.Helper()
	run := NewID()
	heardByAlice, heardByBob = hearsFrom(s.JID("bob"), run), hearsFrom(s.JID("alice"), run)
	alice = s.client(t, "alice", "tcp://"+s.Plain, func(c *ClientConfig) { c.Heard = heardByAlice.heard })
	bob = s.client(t, "bob", "tls://"+s.TLS, func(c *ClientConfig) {
		c.Heard = heardByBob.heard
		if change != nil {
			change(c)
		}
	})
	return connected(t, ctx, alice), connected(t, ctx, bob), heardByAlice, heardByBob
}

// TestDirectOrdeal shows that the driver counts well, with the server that does.
// One way: Prosody 0.12 reads a resumed session with the parser of its first
// connection, so that half a stanza on a connection that was reset ends it.
func TestDirectOrdeal(t *testing.T) {
	s := StartProsody(t, ServerConfig{Users: users})
	ctx := within(t, time.Minute)
	alice, bob, heardByAlice, heardByBob := pair(t, ctx, s, nil)
	ordeal{messages: 300, resets: 10, oneWay: true, cutLogins: true, back: 5 * time.Second}.run(t, ctx, alice, bob, heardByAlice, heardByBob)
}

// TestLong_DirectOrdeal is what the servers do without us. ejabberd 23.01 is
// known to change the order of messages now and then: that is told, and no error.
func TestLong_DirectOrdeal(t *testing.T) {
	takesLong(t)
	eachServer(t, ServerConfig{}, func(t *testing.T, s *Server) {
		for i := range *runs {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				ctx := within(t, 2*time.Minute)
				alice, bob, heardByAlice, heardByBob := pair(t, ctx, s, nil)
				ordeal{messages: 3000, resets: 60, oneWay: s.Kind == "prosody", told: s.Kind == "ejabberd", back: 5 * time.Second}.run(t, ctx, alice, bob, heardByAlice, heardByBob)
			})
		}
	})
}
