package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/test/phone"
)

// crew is many phones, every other over WebSocket.
type crew struct {
	*scene
	phones []*phone.Phone
	users  []string
}

// each does something with every phone, some at a time, and returns what
// failed first.
func (c *crew) each(do func(p *phone.Phone, user string) error) error {
	const atATime = 32
	var working sync.WaitGroup
	room := make(chan struct{}, atATime)
	errs := make(chan error, len(c.phones))
	for i, p := range c.phones {
		room <- struct{}{}
		working.Go(func() {
			defer func() { <-room }()
			errs <- do(p, c.users[i])
		})
	}
	working.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *crew) register(p *phone.Phone, user string) error {
	_, err := p.Register(c.ctx, phone.Registration{Push: c.PushOf(user), RegID: 1})
	return err
}

// gauge is a number of a process's /metrics.
func (h *half) gauge(name string) int {
	h.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp := must[*http.Response](h.t)(client.Get("http://" + h.admin + "/metrics"))
	defer resp.Body.Close()
	lines := bufio.NewScanner(io.LimitReader(resp.Body, 1<<20))
	for lines.Scan() {
		if value, is := strings.CutPrefix(lines.Text(), name+" "); is {
			return int(must[float64](h.t)(strconv.ParseFloat(value, 64)))
		}
	}
	h.t.Fatalf("no metric %s", name)
	return 0
}

const flowsOfTheCore = `sallyport_tunnel_flows{role="core"}`

// holding is what a half holds at rest.
type holding struct{ files, goroutines int }

func (h *half) holding() holding { return holding{h.files(), h.gauge("go_goroutines")} }

// noMoreThan fails if a half holds more than it did, by more than what comes
// and goes, and the goroutines that the core keeps warm: far from one for each
// of a thousand.
func (h *half) noMoreThan(what string, before holding) {
	h.t.Helper()
	const comesAndGoes, warm = 25, 2 * 64
	if now := h.holding(); now.files > before.files+comesAndGoes || now.goroutines > before.goroutines+comesAndGoes+warm {
		h.t.Errorf("%s: %d files and %d goroutines, before %d and %d",
			what, now.files, now.goroutines, before.files, before.goroutines)
	}
}

// A thousand clients are registered. The core is killed: they do not notice,
// and each refreshes through the next one. The edge is killed: each comes back
// and registers. Calls ring after each, and when all have left, neither half
// holds more than when it had started.
func TestB21KillNineWithAThousandRegisteredFlows(t *testing.T) {
	const crowd = 1000
	coreBinary, edgeBinary := build(t, "sallyport-core"), build(t, "sallyport-edge")
	cfg := Config{PBX: true, Edge: unlimited, Users: []string{"witness"}}
	for i := range crowd {
		cfg.Users = append(cfg.Users, fmt.Sprintf("u%d", i))
	}
	withEdgeAdmin(t, &cfg)
	town, ctx := inTownFor(t, 100*time.Second, cfg)
	c := &crew{scene: &scene{Town: town, t: t, ctx: ctx, domain: PBXDomain}, users: cfg.Users[1:]}
	edge, core := edgeApart(t, ctx, town, edgeBinary), coreApart(t, ctx, town, coreBinary)
	for i, user := range c.users {
		c.transport = []phone.Transport{phone.TLS, phone.WSS}[i%2]
		c.phones = append(c.phones, c.new(user))
	}
	empty := holding{edge.files(), 0}
	ok(t, c.each(func(p *phone.Phone, user string) error {
		if err := p.Connect(ctx); err != nil {
			return err
		}
		return c.register(p, user)
	}))
	full, coreFull := edge.holding(), core.holding()

	core.kill()
	core.start(ctx)
	c.until("the core has every flow again", func() bool { return core.gauge(flowsOfTheCore) == crowd })
	for _, p := range c.phones {
		c.connected(p)
	}
	ok(t, c.each(c.register))
	c.rings3()
	core.noMoreThan("the core after it was killed", coreFull)
	edge.noMoreThan("the edge after the core was killed", full)

	edge.kill()
	for _, p := range c.phones {
		c.loses(p)
	}
	edge.start(ctx)
	ok(t, c.each(func(p *phone.Phone, user string) error { c.triesAgain(p, user); return nil }))
	c.until("the core has every flow of the new edge", func() bool { return core.gauge(flowsOfTheCore) == crowd })
	c.rings3()
	core.noMoreThan("the core after the edge was killed", coreFull)
	edge.noMoreThan("the edge after it was killed", full)

	for _, p := range c.phones {
		p.Close()
	}
	c.until("nobody is left", func() bool { return core.gauge(flowsOfTheCore) == 0 })
	c.until("no file is left", func() bool { return edge.files() <= empty.files+5 })
}

// rings3 has three phones called, each over another transport than its caller.
func (c *crew) rings3() {
	c.t.Helper()
	for _, i := range []int{0, 1, len(c.phones) / 2} {
		callee := (i + 1) % len(c.phones)
		call := c.call(c.phones[i], c.users[callee])
		c.talks(c.phones[callee], call)
		ok(c.t, call.Bye(c.ctx))
	}
}

// What a client was told is so. The core is killed the moment a REGISTER was
// answered, again and again, and each phone is known and woken all the same.
func TestB21AnAcknowledgedRegistrationIsThereAfterKillNine(t *testing.T) {
	binary := build(t, "sallyport-core")
	at(t, PBXDomain, Config{}, func(s *scene) {
		proc := coreApart(s.t, s.ctx, s.Town, binary)
		for _, user := range []string{"bob", "carol"} {
			s.online(user)
			proc.kill() // the moment it said 200
			proc.start(s.ctx)
		}
		alice := s.caller("alice")
		bob, carol := s.phones[0], s.phones[1]
		s.sleeps(bob)
		s.sleeps(carol)
		s.wakesFor(alice, bob, "bob", 1)
		call := s.call(alice, "carol")
		s.pushed(2)
		s.registers(carol, "carol")
		s.talks(carol, call)
	})
}
