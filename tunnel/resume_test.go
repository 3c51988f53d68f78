package tunnel_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/tunnel"
)

// A counter is a phone that sends numbered messages, a few at a time, and
// takes their echoes, which must come in order, each once.
type counter struct {
	t          *testing.T
	mu         sync.Mutex // sends are in the order of their numbers
	next, back uint32
	total      uint32
	done       func()
}

func (c *counter) begin(f *tunnel.Flow, underway int) {
	for range underway {
		c.send(f)
	}
}

func (c *counter) send(f *tunnel.Flow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == c.total {
		return
	}
	p := make([]byte, 20+rand.IntN(1200))
	binary.BigEndian.PutUint32(p, c.next)
	c.next++
	if err := f.Send(p); err != nil {
		c.t.Errorf("message %d: %v", c.next-1, err)
	}
}

func (c *counter) Message(f *tunnel.Flow, p []byte) {
	f.Consumed(len(p))
	if got := binary.BigEndian.Uint32(p); got != c.back {
		c.t.Errorf("echo %d, want %d", got, c.back)
	}
	c.back++
	c.send(f)
	if c.back == c.total {
		c.done()
	}
}
func (c *counter) Event(*tunnel.Flow, tunnel.Event) {}
func (c *counter) Closed(_ *tunnel.Flow, code tunnel.CloseCode, text string) {
	if c.back == c.total {
		return // the test is over
	}
	c.t.Errorf("the flow ended: %v %s", code, text)
}

// TU-11: the carrier is cut 50 times at any byte under load, and nothing is
// lost, doubled or reordered.
func TestTU11_CutsUnderLoadLoseNothing(t *testing.T) {
	flows, messages, cuts := 500, uint32(100), 50
	if slow > 1 {
		flows, messages, cuts = 100, 60, 25
	}
	for links := 1; links <= 3; links += 2 {
		t.Run(fmt.Sprintf("%d links", links), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := prometheus.NewRegistry()
				r := newRoom(t)
				var opened, inverted atomic.Int32
				ec, dc := edge("core1"), r.core("core1", func(*tunnel.Flow) tunnel.Handler {
					opened.Add(1)
					want := uint32(0)
					return handler(func(f *tunnel.Flow, p []byte) {
						f.Consumed(len(p))
						if binary.BigEndian.Uint32(p) != want {
							inverted.Add(1)
						}
						want++
						if err := f.Send(p); err != nil {
							t.Errorf("echo: %v", err)
						}
					})
				})
				ec.Metrics, dc.Metrics, dc.Links = reg, reg, links
				a, _ := pair(t, r, ec, dc)
				time.Sleep(time.Second)
				left := cuts
				r.mu.Lock()
				r.fuse = func() int {
					if left == 0 {
						return 0
					}
					left--
					return 1 + rand.IntN(int(messages)*flows*1200/cuts)
				}
				r.mu.Unlock()
				for _, c := range r.all() {
					c.cut()
				}
				time.Sleep(time.Second)
				all := make(chan struct{})
				var done atomic.Int32
				for range flows {
					c := &counter{t: t, total: messages, done: func() {
						if int(done.Add(1)) == flows {
							close(all)
						}
					}}
					f, err := a.Open(tunnel.Info{Service: "sip"}, c)
					for err != nil {
						time.Sleep(time.Millisecond)
						f, err = a.Open(tunnel.Info{Service: "sip"}, c)
					}
					c.begin(f, 2)
				}
				<-all
				if int(opened.Load()) != flows || inverted.Load() != 0 {
					t.Errorf("%d flows of %d were opened, %d messages out of order", opened.Load(), flows, inverted.Load())
				}
				t.Logf("%d dials, %v bytes replayed by the edge, %v by the core", r.count(),
					value(t, reg, "sallyport_tunnel_replayed_bytes_total", "edge"), value(t, reg, "sallyport_tunnel_replayed_bytes_total", "core"))
				if left != 0 || r.count() < cuts {
					t.Errorf("%d dials: the load was over before %d cuts", r.count(), left)
				}
			})
		})
	}
}

// Half-open (a peer that is gone without FIN, both ways or one): found within
// 8 s by both ends, and the link goes on where it ended.
func TestHalfOpenLinkIsFoundAndResumes(t *testing.T) {
	for name, freeze := range map[string]func(*cable){
		"both ways": (*cable).freeze,
		"to edge":   func(c *cable) { c.freezeWay(0) },
		"to core":   func(c *cable) { c.freezeWay(1) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, core, phone := newRoom(t), &pbx{}, newClient()
				a, d := pair(t, r, edge("core1"), r.core("core1", core.open))
				synctest.Wait()
				up := open(t, a, 1, phone)
				time.Sleep(time.Minute + 700*time.Millisecond)
				down, heard := core.newest()
				freeze(r.last())
				frozen := time.Now()
				want := make([]string, 50)
				for i := range want {
					want[i] = fmt.Sprint("message ", i)
					if up.Send([]byte(want[i])) != nil || down.Send([]byte(want[i])) != nil {
						t.Fatal("a send was refused")
					}
				}
				for r.count() == 1 {
					time.Sleep(10 * time.Millisecond)
				}
				if took := time.Since(frozen); took > 8*time.Second+10*time.Millisecond {
					t.Errorf("found after %v, want 8s", took)
				}
				time.Sleep(100 * time.Millisecond)
				if !a.Ready() || !d.Ready() {
					t.Fatalf("edge %v, core %v", a.Ready(), d.Ready())
				}
				if !slices.Equal(heard.messages(), want) || !slices.Equal(phone.messages(), want) {
					t.Errorf("the core heard %d, the phone %d of %d", len(heard.messages()), len(phone.messages()), len(want))
				}
				if core.count() != 1 || len(phone.codes())+len(heard.codes()) != 0 {
					t.Error("the flow did not live on")
				}
			})
		})
	}
}

// Flows are spread over the links, stay there, and see nothing of another
// link's end.
func TestFlowsAreSpreadOverLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const links = 4
		r, core := newRoom(t), &pbx{make: func(*tunnel.Flow) *client { c := newClient(); c.echo = true; return c }}
		dc := r.core("core1", core.open)
		dc.Links = links
		a, d := pair(t, r, edge("core1"), dc)
		time.Sleep(time.Second)
		if st := d.Sessions()[0]; st.Links != links || st.LinksUp != links || r.count() != links {
			t.Fatalf("%d dials: %+v", r.count(), st)
		}
		phones, flows := make([]*client, 40), make([]*tunnel.Flow, 40)
		for i := range phones {
			phones[i] = newClient()
			flows[i] = open(t, a, byte(i), phones[i])
		}
		synctest.Wait()
		r.setDown(true)
		r.all()[0].cut()
		synctest.Wait()
		if st := a.Sessions()[0]; !st.Up || st.LinksUp != links-1 || !d.Ready() {
			t.Errorf("with one link cut: %+v", st)
		}
		for _, f := range flows {
			if err := f.Send([]byte("x")); err != nil {
				t.Errorf("send: %v", err)
			}
		}
		synctest.Wait()
		quiet := 0
		for _, p := range phones {
			if len(p.messages()) == 0 {
				quiet++
			}
		}
		if quiet != len(phones)/links {
			t.Errorf("%d of %d flows stand still with one of %d links", quiet, len(phones), links)
		}
		if f := open(t, a, 100, newClient()); f.Send([]byte("x")) != nil {
			t.Error("a new flow cannot send")
		}
		r.setDown(false)
		time.Sleep(time.Second)
		for i, p := range phones {
			if got := p.messages(); len(got) != 1 {
				t.Errorf("phone %d got %d echoes", i, len(got))
			}
		}
	})
}

// A link that finds no connection for Grace takes the session along, and the
// flows go on in the next one.
func TestLinkLostForGraceEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core, phone := newRoom(t), &pbx{}, newClient()
		dc := r.core("core1", core.open)
		dc.Links = 2
		a, d := pair(t, r, edge("core1"), dc)
		time.Sleep(time.Second)
		open(t, a, 1, phone)
		synctest.Wait()
		r.setDown(true)
		r.last().cut()
		time.Sleep(15*time.Second - time.Millisecond)
		if !a.Ready() || !d.Ready() || core.count() != 1 {
			t.Error("given up before grace was over")
		}
		r.setDown(false)
		r.mu.Lock()
		r.fuse = func() int { return 1 } // one byte is no HELLO
		r.mu.Unlock()
		time.Sleep(time.Second)
		r.mu.Lock()
		r.fuse = nil
		r.mu.Unlock()
		time.Sleep(10 * time.Second)
		f, _ := core.newest()
		if core.count() != 2 || !f.Info().Reopened || len(phone.codes()) != 0 {
			t.Errorf("%d OPENs, the phone saw %v", core.count(), phone.codes())
		}
	})
}
