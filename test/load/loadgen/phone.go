package loadgen

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// errTimeout is an operation that has not ended within Config.Timeout.
var errTimeout = errors.New("no answer in time")

// lifetime is what phones ask for when they register, in seconds.
const lifetime = 3600

// A phone is one user's. One goroutine at a time connects and wakes it; any may
// register.
type phone struct {
	g     *Generator
	index int
	user  string
	aor   string
	flow  *flow

	callID     string
	tag        string
	cseq       atomic.Uint32
	contact    string // in dialogs
	registered string // in REGISTER

	// Both are set anew, before it connects, each time the phone is woken.
	invites chan arrival // INVITEs that come in; nil: nobody looks
	came    atomic.Int64 // how many have
}

// An arrival is an INVITE at the phone.
type arrival struct {
	call string
	at   time.Time
}

func (g *Generator) newPhone(i int, user string) *phone {
	return &phone{
		g: g, index: i, user: user, aor: "sip:" + user + "@" + g.cfg.Domain,
		callID: fmt.Sprintf("reg-%s-%s@lg", g.run, user), tag: fmt.Sprintf("t%s%d", g.run, i),
	}
}

// connect gives the phone a flow, a new one if it had one.
func (p *phone) connect() error {
	addr := p.g.server.SIPS
	if p.g.transport == WSS {
		addr = p.g.server.HTTPS
	}
	f, err := p.g.dial(p.g.transport, addr, p.index)
	if err != nil {
		return err
	}
	if p.flow = f; f.ws {
		f.host = fmt.Sprintf("c%s%d.invalid", p.g.run, p.index)
	}
	push := ""
	if p.g.push != nil {
		push = p.g.push(p.user)
	}
	transport := map[Transport]string{TCP: "tcp", TLS: "tls", WSS: "ws"}[p.g.transport]
	uri := fmt.Sprintf("sip:%s@%s;transport=%s", p.user, f.host, transport)
	p.contact = fmt.Sprintf("<%s;ob>", uri)
	p.registered = fmt.Sprintf(`<%s;ob%s>;reg-id=1;+sip.instance="<urn:uuid:00000000-0000-1000-8000-%012x>"`, uri, push, p.index+1)
	f.phone.Store(p)
	p.g.start(f)
	return nil
}

// register sends a REGISTER; done hears how it ended, unless sending fails.
func (p *phone) register(expires int, done func(status int)) error {
	return p.g.ask(p.flow, &request{
		method: "REGISTER", uri: "sip:" + p.g.cfg.Domain,
		from: "<" + p.aor + ">;tag=" + p.tag, to: "<" + p.aor + ">", callID: p.callID, cseq: p.cseq.Add(1),
		contact: p.registered,
		headers: "Expires: " + strconv.Itoa(expires) + "\r\nSupported: path, outbound, gruu, replaces\r\n" + allow,
	}, func(m *message) bool {
		if m.status < 200 {
			return false
		}
		done(m.status)
		return true
	})
}

// await is register, and waits.
func (p *phone) await(expires int) error {
	ended := make(chan int, 1)
	if err := p.register(expires, func(status int) { ended <- status }); err != nil {
		return err
	}
	select {
	case status := <-ended:
		return statusError(status)
	case <-time.After(p.g.cfg.Timeout):
		return errTimeout
	}
}

func statusError(status int) error {
	if status/100 != 2 {
		return fmt.Errorf("status %d", status)
	}
	return nil
}

// sleep ends the phone's flow as a lost network does.
func (p *phone) sleep() {
	if p.flow != nil {
		p.flow.abort()
	}
}

// open makes phones, connects and registers them, Busy at a time, and counts
// how long that took from the first SYN on.
func (g *Generator) open(phones []*phone, took *Hist) (ok, failed int64) {
	var next, good, bad atomic.Int64
	var working sync.WaitGroup
	for range g.cfg.Busy {
		working.Go(func() {
			for {
				i := int(next.Add(1) - 1)
				if i >= len(phones) {
					return
				}
				start := time.Now()
				err := phones[i].connect()
				if err == nil {
					err = phones[i].await(lifetime)
				}
				if err != nil {
					g.fault("%v", err)
					bad.Add(1)
					continue
				}
				good.Add(1)
				took.Add(time.Since(start))
			}
		})
	}
	working.Wait()
	return good.Load(), bad.Load()
}

// crowd makes n phones of users that begin with prefix.
func (g *Generator) crowd(n int, prefix string) []*phone {
	phones := make([]*phone, n)
	for i := range phones {
		phones[i] = g.newPhone(i, prefix+strconv.Itoa(i))
	}
	return phones
}

// ready has all phones registered, once for each generator.
func (g *Generator) ready() error {
	if g.phones != nil {
		return nil
	}
	phones := g.crowd(g.flowCount, "u")
	if _, failed := g.open(phones, &Hist{}); failed > 0 {
		return fmt.Errorf("%d of %d phones did not register: %v", failed, len(phones), g.takeFaults())
	}
	g.phones = phones
	return nil
}

// rest drops all phones.
func (g *Generator) rest() {
	for _, p := range g.phones {
		p.sleep()
	}
	g.phones = nil
}
