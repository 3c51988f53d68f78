package main

import (
	"time"

	"sallyport/test/load/loadgen"
)

// A scenario is one thing that is measured.
type scenario struct {
	name      string
	transport loadgen.Transport
	flows     int
	fresh     bool // needs a system that has done nothing yet
	run       func(t *town) (*loadgen.Result, error)
}

const messageBytes = 200

// scenarios are all of them, in order.
func scenarios(short bool) []scenario {
	flows, crowd, idle, sleepers := 500, 2000, 5000, 300
	long, settle := 4*time.Second, 10*time.Second
	if short {
		flows, crowd, idle, sleepers = 50, 100, 200, 20
		long, settle = 500*time.Millisecond, 500*time.Millisecond
	}
	warm := long / 4
	most := loadgen.Load{For: long, Warm: warm}
	at := func(rate int) loadgen.Load { return loadgen.Load{Rate: rate, For: long, Warm: warm} }
	idleOn := func(name string, tr loadgen.Transport) scenario {
		return scenario{name, tr, idle, true, func(t *town) (*loadgen.Result, error) { return t.gen.Idle(settle) }}
	}
	stormOn := func(name string, tr loadgen.Transport) scenario {
		return scenario{name, tr, crowd, false, func(t *town) (*loadgen.Result, error) { return t.gen.Storm(settle / 10) }}
	}
	on := func(name string, tr loadgen.Transport, run func(t *town) (*loadgen.Result, error)) scenario {
		return scenario{name, tr, flows, false, run}
	}
	refresh := func(l loadgen.Load) func(t *town) (*loadgen.Result, error) {
		return func(t *town) (*loadgen.Result, error) { return t.gen.Refresh(l) }
	}
	message := func(d loadgen.Direction) func(t *town) (*loadgen.Result, error) {
		return func(t *town) (*loadgen.Result, error) { return t.gen.Messages(most, d, messageBytes) }
	}
	call := func(l loadgen.Load, d loadgen.Direction) func(t *town) (*loadgen.Result, error) {
		return func(t *town) (*loadgen.Result, error) { return t.gen.Calls(l, d) }
	}
	wake := func(prefix string, phones, times int) func(t *town) (*loadgen.Result, error) {
		return func(t *town) (*loadgen.Result, error) {
			s := t.run.sleep
			s.Prefix, s.Phones, s.Times, s.Push = prefix, phones, times, t.run.push
			return t.gen.Wake(s)
		}
	}
	return []scenario{
		idleOn("idle-tls", loadgen.TLS),
		idleOn("idle-wss", loadgen.WSS),
		stormOn("storm-tls", loadgen.TLS),
		stormOn("storm-wss", loadgen.WSS),
		on("refresh-tls", loadgen.TLS, refresh(most)),
		on("refresh-wss", loadgen.WSS, refresh(most)),
		on("refresh-paced", loadgen.TLS, refresh(at(1000))),
		on("msg-out", loadgen.TLS, message(loadgen.Out)),
		on("msg-in", loadgen.TLS, message(loadgen.In)),
		on("call-out-100", loadgen.TLS, call(at(100), loadgen.Out)),
		on("call-in-100", loadgen.TLS, call(at(100), loadgen.In)),
		on("call-out", loadgen.TLS, call(most, loadgen.Out)),
		on("call-in", loadgen.TLS, call(most, loadgen.In)),
		on("wake", loadgen.TLS, wake("w", sleepers, 1)),
		on("wake-again", loadgen.TLS, wake("a", sleepers/10, 4)),
	}
}
