package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sallyport/core/push/pushtest"
	"sallyport/test/phone"
)

// TestTwoHundredSleepingPhonesAreCalledAtOnce has each phone woken by its own
// push, as in life: nobody else tells it. Under the race detector they are
// fewer, since Apple's 2.5 s are the same.
func TestTwoHundredSleepingPhonesAreCalledAtOnce(t *testing.T) {
	const crowd, callers, within = 200 / slow, 4, 20 * time.Second
	users := make([]string, 0, crowd+callers)
	for i := range crowd + callers {
		users = append(users, fmt.Sprintf("u%d", i))
	}
	pushes := make(chan pushtest.Push, 2*crowd)
	town, ctx := inTown(t, Config{Users: users, Edge: unlimited, OnPush: func(p pushtest.Push) { pushes <- p }})
	s := &scene{Town: town, t: t, ctx: ctx, domain: Domain}
	sleepers := make(map[string]*phone.Phone, crowd) // by VoIP token
	var calling []*phone.Phone
	for i, user := range users {
		s.transport = []phone.Transport{phone.TLS, phone.WSS}[i%2]
		p := s.online(user)
		if i >= crowd {
			calling = append(calling, p)
			continue
		}
		p.Sleep()
		sleepers[Token(user, "voip")] = p
	}
	start := time.Now()
	calls := make(map[string]*phone.Dialog, crowd)
	for i, user := range users[:crowd] {
		calls[user] = s.call(calling[i%callers], user)
	}
	woken := make(chan error, crowd)
	for range crowd {
		select {
		case p := <-pushes:
			bob := sleepers[p.Token]
			delete(sleepers, p.Token)
			if bob == nil {
				t.Fatalf("a push on %s that no sleeping phone is for", p.Topic)
			}
			go func() { woken <- wakeAndAnswer(ctx, town, bob) }()
		case <-ctx.Done():
			t.Fatalf("%d phones were not pushed", len(sleepers))
		}
	}
	for range crowd {
		ok(t, <-woken)
	}
	for _, call := range calls {
		ok(t, call.Answered(ctx))
	}
	if took := time.Since(start); took > within {
		t.Errorf("took %v, want %v at most", took, within)
	}
	if n := len(town.APNs.Pushes()); n != crowd {
		t.Errorf("%d pushes, want %d", n, crowd)
	}
	for _, p := range s.phones {
		for _, c := range p.Complaints() {
			t.Errorf("%s complains: %s", p.AOR(), c)
		}
	}
}

func wakeAndAnswer(ctx context.Context, town *Town, p *phone.Phone) error {
	if err := p.Connect(ctx); err != nil {
		return err
	}
	user := p.AOR()[len("sip:") : len(p.AOR())-len("@"+Domain)]
	if _, err := p.Register(ctx, phone.Registration{Push: town.PushOf(user), RegID: 1}); err != nil {
		return err
	}
	select {
	case in := <-p.Calls():
		_, err := in.Answer()
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s did not ring", p.AOR())
	}
}
