package lossy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call connects B to A and echoes at A.
func call(t *testing.T, p *Pair) net.Conn {
	t.Helper()
	l, err := p.A.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := p.B.Dial(ctx, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = l.Close(); <-done })
	return c
}

// echo sends b and waits until it is back, as long as it takes but not longer
// than 20 s.
func echo(t *testing.T, c net.Conn, b []byte) time.Duration {
	t.Helper()
	start := time.Now()
	_ = c.SetDeadline(start.Add(20 * time.Second))
	sent := make(chan error, 1)
	go func() { _, err := c.Write(b); sent <- err }()
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b) {
		t.Fatal("the line changed bytes")
	}
	return time.Since(start)
}

// A line with a delay is no faster than that.
func TestADelayIsKept(t *testing.T) {
	p := New(t, Line{Delay: 15 * time.Millisecond})
	c := call(t, p)
	if took := echo(t, c, []byte("hello")); took < 30*time.Millisecond {
		t.Errorf("there and back in %v over a line of 15 ms each way", took)
	}
}

// A line that loses packets loses about as many as it was told, and TCP brings
// every byte over it.
func TestLossIsAsToldAndTCPSurvivesIt(t *testing.T) {
	p := New(t, Line{Delay: time.Millisecond, Loss: 0.05})
	echo(t, call(t, p), make([]byte, 2<<20))
	there, back := p.Counts()
	sent, lost := there.Sent+back.Sent, there.Lost+back.Lost
	if share := float64(lost) / float64(sent); sent < 1000 || share < 0.02 || share > 0.10 {
		t.Errorf("lost %d of %d packets, want about one in 20 of some thousand", lost, sent)
	}
}

// A throttled line takes as long as its rate makes it.
func TestARateIsKept(t *testing.T) {
	p := New(t, Line{Rate: 4_000_000})
	if took := echo(t, call(t, p), make([]byte, 128<<10)); took < 200*time.Millisecond {
		t.Errorf("1 Mbit at 4 Mbit/s took %v", took)
	}
}

// A cut line tells nobody, and goes on where it was when it is mended.
func TestACutTellsNobody(t *testing.T) {
	p := New(t, Line{})
	c := call(t, p)
	echo(t, c, []byte("before"))
	p.Set(Line{Cut: true})
	if _, err := c.Write([]byte("into the void")); err != nil {
		t.Fatalf("a cut line was noticed at once: %v", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("over a cut line came %v", err)
	}
	p.Set(Line{})
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	got := make([]byte, len("into the void"))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("after the line was mended: %v", err)
	}
}
