package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
)

// TU-19: twenty cores whose ten edges all restarted do not come in step: their
// dials are spread over the whole wait, and no second gets much more than its
// share.
func TestTU19_StormOfCoresIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const cores, edges = 20, 10
		var mu sync.Mutex
		var at []time.Time
		var addrs []string
		for i := range edges {
			addrs = append(addrs, fmt.Sprintf("edge%d:7443", i))
		}
		for i := range cores {
			start(t, tunnel.NewDialer(tunnel.DialerConfig{
				Name: fmt.Sprintf("core%d", i), Edges: addrs,
				Dial: func(context.Context, string) (net.Conn, string, error) {
					mu.Lock()
					defer mu.Unlock()
					at = append(at, time.Now())
					return nil, "", errors.New("connection refused")
				},
			}).Run)
		}
		began := time.Now()
		time.Sleep(60 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		// From 30 s on, every pair waits for up to 10 s: 200 pairs, a dial each
		// 5 s in the middle, are 40 dials a second.
		perSecond := make(map[int]int)
		for _, when := range at {
			perSecond[int(when.Sub(began)/time.Second)]++
		}
		for s := 30; s < 60; s++ {
			if n := perSecond[s]; n < 10 || n > 80 {
				t.Errorf("%d dials in second %d, want about 40", n, s)
			}
		}
	})
}

// TU-19, the edge: no more than 64 connections at a time are on their way to
// be trusted; the others are told at once to come later.
func TestTU19_HandshakesAtATimeAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, hold := newRoom(t), make(chan struct{})
		ec := edge("core1")
		var mu sync.Mutex
		shaking, most := 0, 0
		ec.Handshake = func(context.Context, net.Conn) (net.Conn, string, error) {
			mu.Lock()
			shaking++
			most = max(most, shaking)
			mu.Unlock()
			<-hold
			return nil, "", errors.New("no")
		}
		a := tunnel.NewAcceptor(ec)
		start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
		refused := 0
		for range 200 {
			c, err := r.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			_ = c.SetReadDeadline(time.Now())
			if _, err := c.Read(make([]byte, 1)); err != nil && !isTimeout(err) {
				refused++
			}
		}
		close(hold)
		if most != 64 || refused != 200-64 {
			t.Errorf("%d handshakes at a time, %d of 200 refused", most, refused)
		}
	})
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// TU-30, the tunnel's part: an idle flow that has carried a message costs at
// most 1 KiB, both ends together, and no goroutine.
func TestTU30_IdleFlowsCostLittle(t *testing.T) {
	if slow > 1 {
		t.Skip("the race detector keeps books of its own")
	}
	const flows = 20_000
	var phones sync.WaitGroup
	echo := handler(func(f *tunnel.Flow, p []byte) {
		f.Consumed(len(p))
		if f.Send(p) != nil {
			t.Error("echo refused")
		}
	})
	phone := handler(func(f *tunnel.Flow, p []byte) {
		f.Consumed(len(p))
		phones.Done()
	})
	a := securePair(t, func(*tunnel.Flow) tunnel.Handler { return echo })
	before, threads := memory(), runtime.NumGoroutine()
	kept := make([]*tunnel.Flow, flows)
	info := tunnel.Info{Service: "sip", Transport: "wss", Public: "edge.example.com:443", Host: "edge.example.com", Path: "/ws"}
	for i := range kept {
		f, err := a.Open(info, phone)
		for err != nil {
			runtime.Gosched()
			f, err = a.Open(info, phone)
		}
		phones.Add(1)
		if err := f.SendWait(t.Context(), make([]byte, 600)); err != nil {
			t.Fatal(err)
		}
		kept[i] = f
		if i%500 == 499 {
			phones.Wait()
		}
	}
	after := memory()
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc) + int64(after.StackInuse) - int64(before.StackInuse)) / flows
	if each > 1024 || runtime.NumGoroutine() > threads+20 {
		t.Errorf("%d bytes a flow, %d goroutines for %d flows", each, runtime.NumGoroutine()-threads, flows)
	}
	t.Logf("%d bytes a flow", each)
	runtime.KeepAlive(kept)
}
