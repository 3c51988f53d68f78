package loadgen

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A Load says how much is asked for how long.
type Load struct {
	// Rate is how many operations begin each second, whatever becomes of
	// those before; 0: Busy of them at a time, each after the one before.
	Rate int
	// For is how long; the same load for Warm before it is not measured.
	For, Warm time.Duration
}

// A Result is what one measurement gave.
type Result struct {
	OK, Failed int64
	Elapsed    time.Duration
	// CPU is what each watched process tree used.
	CPU map[string]time.Duration
	// Times are those at the sockets of phones and PBX, by what was timed.
	Times map[string]Times
	// Faults counts what went wrong, by what was said of it.
	Faults map[string]int
	// Extra counts what this kind of measurement counts beside.
	Extra map[string]float64
}

// Times are two quantiles of what was timed.
type Times struct {
	N        int
	P50, P99 time.Duration
}

// Rate is how many operations a second succeeded.
func (r *Result) Rate() float64 { return float64(r.OK) / r.Elapsed.Seconds() }

// CPUOf is the CPU of one watched tree for 10,000 operations, in seconds.
func (r *Result) CPUOf(name string) float64 {
	return r.CPU[name].Seconds() / float64(max(r.OK, 1)) * 10_000
}

func timesOf(h *Hist) Times { return Times{N: h.Len(), P50: h.Quantile(0.5), P99: h.Quantile(0.99)} }

// result counts what happened between two moments.
func (g *Generator) result(from, to usage, ok, failed int64, times map[string]*Hist) *Result {
	r := &Result{
		OK: ok, Failed: failed, Elapsed: to.at.Sub(from.at), CPU: make(map[string]time.Duration),
		Times: make(map[string]Times), Faults: g.takeFaults(), Extra: make(map[string]float64),
	}
	for name, cpu := range to.cpu {
		r.CPU[name] = cpu - from.cpu[name]
	}
	for name, h := range times {
		if h.Len() > 0 {
			r.Times[name] = timesOf(h)
		}
	}
	return r
}

// An operation is started with its number and says once how it ended.
type operation func(i int, done func(error))

// drive has operations done as the load says, first unmeasured. between is
// called as the measurement begins.
func (g *Generator) drive(l Load, between func(), op operation) (from, to usage, ok, failed int64) {
	g.round(l, l.Warm, op)
	g.takeFaults()
	between()
	runtime.GC() // not in the middle of the measurement
	from = g.usage()
	ok, failed = g.round(l, l.For, op)
	return from, g.usage(), ok, failed
}

func (g *Generator) round(l Load, d time.Duration, op operation) (ok, failed int64) {
	c := &count{g: g}
	if l.Rate > 0 {
		g.paced(l.Rate, d, c, op)
	} else {
		g.looped(d, c, op)
	}
	return c.ok.Load(), c.failed.Load()
}

// count is how the operations of one round ended.
type count struct {
	g          *Generator
	ok, failed atomic.Int64
}

func (c *count) add(err error) {
	if err == nil {
		c.ok.Add(1)
		return
	}
	c.failed.Add(1)
	c.g.fault("%v", err)
}

// paced starts operations at a rate and waits for all of them.
func (g *Generator) paced(rate int, d time.Duration, c *count, op operation) {
	every := time.Second / time.Duration(rate)
	begin := time.Now()
	n := int(d / every)
	var pending sync.WaitGroup
	for i := range n {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * every)))
		pending.Add(1)
		var once sync.Once
		end := func(err error) { once.Do(func() { c.add(err); pending.Done() }) }
		late := time.AfterFunc(g.cfg.Timeout, func() { end(errTimeout) })
		op(i, func(err error) { late.Stop(); end(err) })
	}
	pending.Wait()
}

// looped keeps Busy operations under way.
func (g *Generator) looped(d time.Duration, c *count, op operation) {
	end := time.Now().Add(d)
	var next atomic.Int64
	var working sync.WaitGroup
	for range g.cfg.Busy {
		working.Go(func() {
			late := time.NewTimer(g.cfg.Timeout)
			defer late.Stop()
			for time.Now().Before(end) {
				ended := make(chan error, 1)
				op(int(next.Add(1)-1), func(err error) {
					select {
					case ended <- err:
					default:
					}
				})
				late.Reset(g.cfg.Timeout)
				select {
				case err := <-ended:
					c.add(err)
				case <-late.C:
					c.add(fmt.Errorf("closed loop: %w", errTimeout))
				}
			}
		})
	}
	working.Wait()
}
