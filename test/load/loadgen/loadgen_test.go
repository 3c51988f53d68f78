package loadgen

import (
	"bufio"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// direct is a generator whose phones talk to its own PBX, with nothing between.
func direct(t *testing.T) *Generator {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	g, err := New(Config{PBX: addr, Domain: "example.com", Desk: "desk", Busy: 4, Sources: 3, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	g.Against(Server{SIPS: addr, Core: addr, Watch: []Process{{Name: "self", PID: os.Getpid()}}})
	g.Switch(TCP, 10)
	return g
}

// whole says that everything succeeded and the times were taken.
func whole(t *testing.T, r *Result, err error, timed ...string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if r.OK == 0 || r.Failed != 0 || len(r.Faults) != 0 || r.Rate() <= 0 {
		t.Errorf("%d done, %d failed, %v", r.OK, r.Failed, r.Faults)
	}
	for _, name := range timed {
		got := r.Times[name]
		if int64(got.N) < r.OK || got.P50 <= 0 || got.P99 < got.P50 {
			t.Errorf("%s: %+v for %d operations", name, got, r.OK)
		}
	}
}

func TestEveryMeasurementSucceedsWithNothingBetween(t *testing.T) {
	g := direct(t)
	few, paced := Load{For: 50 * time.Millisecond}, Load{Rate: 200, For: 50 * time.Millisecond}
	r, err := g.Refresh(few)
	whole(t, r, err, "refreshed")
	r, err = g.Refresh(paced)
	whole(t, r, err, "refreshed")
	if r.OK != 10 {
		t.Errorf("200/s for 50 ms are %d operations, want 10", r.OK)
	}
	r, err = g.Messages(few, Out, 100)
	whole(t, r, err, "one way")
	r, err = g.Calls(few, Out)
	whole(t, r, err, "INVITE one way", "ACK one way", "to 180", "to 200", "whole call")
	r, err = g.Storm(0)
	whole(t, r, err, "registered")
	r, err = g.Idle(0)
	whole(t, r, err)
}

func TestARefusalIsCountedByItsStatus(t *testing.T) {
	g := direct(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // answers one request 403
		c, err := l.Accept()
		if err != nil {
			return
		}
		raw, err := readStream(bufio.NewReader(c), nil)
		var m message
		if err == nil && m.parse(raw) == nil {
			_, _ = c.Write((&reply{status: 403, reason: "Forbidden"}).appendTo(nil, &m))
		}
	}()
	g.server.SIPS = l.Addr().String()
	p := g.newPhone(0, "alice")
	if err := p.connect(); err != nil {
		t.Fatal(err)
	}
	defer p.sleep()
	if err := p.await(lifetime); err == nil || err.Error() != "status 403" {
		t.Errorf("registering gave %v, want status 403", err)
	}
}

func TestAMessageIsReadToItsEnd(t *testing.T) {
	const text = "INVITE sip:a@b SIP/2.0\r\nv: SIP/2.0/TCP h;branch=z9hG4bKlg00000000000000ff\r\nRecord-Route: <sip:r1;lr>, <sip:r2;x=\",\">\r\n" +
		"f: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: lgc00000000000000aa@lg\r\nCSeq: 7 INVITE\r\nm: <sip:a@h;transport=tcp>\r\nl: 3\r\n\r\nsdp"
	in := bufio.NewReader(strings.NewReader("\r\n" + text + text))
	raw, err := readStream(in, nil)
	if err != nil || len(raw) != 0 {
		t.Fatalf("a keep-alive read as %q, %v", raw, err)
	}
	for range 2 {
		if raw, err = readStream(in, raw); err != nil || string(raw) != text {
			t.Fatalf("read %q, %v", raw, err)
		}
	}
	var m message
	if err := m.parse(raw); err != nil {
		t.Fatal(err)
	}
	if !m.request || m.method != "INVITE" || len(m.routes) != 2 || string(m.routes[1]) != `<sip:r2;x=",">` || string(uriOf(m.contact)) != "sip:a@h;transport=tcp" {
		t.Errorf("parsed %+v", m)
	}
	if id, ok := number(param(m.vias[0], "branch"), branchPrefix); !ok || id != 0xff {
		t.Errorf("branch %x, %v", id, ok)
	}
	if id, ok := number(m.callID, callPrefix); !ok || id != 0xaa {
		t.Errorf("call %x, %v", id, ok)
	}
}

func TestNotSIPIsRefused(t *testing.T) {
	for _, raw := range []string{"", "hello", "SIP/2.0 2", "SIP/2.0 abc OK\r\n\r\n", "INVITE\r\n\r\n", "BYE sip:a SIP/2.0\r\nCSeq: 1 BYE\r\n\r\n"} {
		var m message
		if m.parse([]byte(raw)) == nil {
			t.Errorf("%q was taken", raw)
		}
	}
}

func TestQuantilesAreWithinTwoPercent(t *testing.T) {
	var h Hist
	if h.Quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
	for i := 1; i <= 1000; i++ {
		h.Add(time.Duration(i) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond} {
		if got := h.Quantile(q); got < want*98/100 || got > want*102/100 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if h.Reset(); h.Len() != 0 || h.Quantile(0.5) != 0 {
		t.Error("something is left after Reset")
	}
}

func TestTheProcessTreeIsAccounted(t *testing.T) {
	self := Process{Name: "self", PID: os.Getpid()}
	before := self.CPU()
	for end := before + 2*clockTick; self.CPU() < end; { // burns what it waits for
	}
	if m := self.Memory(); m < 1<<20 {
		t.Errorf("a Go program in %d bytes", m)
	}
	if parent, _, ok := stat(self.PID); !ok || parent != os.Getppid() {
		t.Errorf("parent %d, want %d", parent, os.Getppid())
	}
	if cpu := (Process{PID: -1}).CPU(); cpu != 0 {
		t.Errorf("no process used %v", cpu)
	}
}
