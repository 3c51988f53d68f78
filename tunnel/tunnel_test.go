package tunnel_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
)

func TestMessagesEventsAndClosesCross(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core, phone := newRoom(t), &pbx{}, newClient()
		a, d := pair(t, r, edge("core1"), r.core("core1", core.open))
		synctest.Wait()
		if !a.Ready() || !d.Ready() {
			t.Fatalf("ready: edge %v, core %v", a.Ready(), d.Ready())
		}
		info := tunnel.Info{
			UUID: [16]byte{7}, Service: "sip", Transport: "wss",
			Remote: netip.MustParseAddrPort("[2001:db8::7]:4711"), Public: "edge.example.com:443",
			SNI: "edge.example.com", Host: "edge.example.com", Path: "/ws", Origin: "https://app.example.com",
			Subprotocol: "sip", TLSVersion: 0x0304, Since: time.UnixMilli(1_700_000_000_123),
		}
		up, err := a.Open(info, phone)
		if err != nil {
			t.Fatal(err)
		}
		if err := up.Send([]byte("REGISTER")); err != nil {
			t.Fatal(err)
		}
		if err := up.Event(tunnel.EventSilent); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		down, heard := core.newest()
		if got := *down.Info(); got != info {
			t.Errorf("the core was told %+v, want %+v", got, info)
		}
		if down.Peer().Name != "edge1" || up.Peer().Name != "core1" || down.Peer().Boot == 0 {
			t.Errorf("peers: %+v, %+v", down.Peer(), up.Peer())
		}
		if got := heard.messages(); !slices.Equal(got, []string{"REGISTER"}) {
			t.Errorf("the core heard %q", got)
		}
		if !slices.Equal(heard.events, []tunnel.Event{tunnel.EventSilent}) {
			t.Errorf("the core heard events %v", heard.events)
		}
		// What is sent before Close arrives before it.
		if err := down.Send([]byte("403")); err != nil {
			t.Fatal(err)
		}
		down.Close(tunnel.CloseKicked, "out")
		synctest.Wait()
		if got := phone.messages(); !slices.Equal(got, []string{"403"}) {
			t.Errorf("the phone heard %q", got)
		}
		if got := phone.codes(); !slices.Equal(got, []tunnel.CloseCode{tunnel.CloseKicked}) || phone.texts[0] != "out" {
			t.Errorf("the phone's flow ended with %v %q", got, phone.texts)
		}
		if len(heard.codes()) != 0 {
			t.Errorf("Closed was called after Close: %v", heard.codes())
		}
		st := d.Sessions()[0]
		if !st.Up || st.Flows != 0 || st.Peer.Name != "edge1" || st.Edge != "edge1:7443" {
			t.Errorf("status: %+v", st)
		}
	})
}

// A message of exactly the window passes on an idle flow, whatever was
// consumed before and is not yet worth a CREDIT.
func TestLongestMessagePassesOnIdleFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core, phone := newRoom(t), &pbx{}, newClient()
		a, _ := pair(t, r, edge("core1"), r.core("core1", core.open))
		synctest.Wait()
		up := open(t, a, 1, phone)
		for _, n := range []int{100, 65536, 65536, 16383, 65536, 1, 65535} {
			if err := up.Send([]byte(strings.Repeat("x", n))); err != nil {
				t.Fatalf("message of %d bytes on an idle flow: %v", n, err)
			}
			synctest.Wait()
			_, heard := core.newest()
			if got := heard.messages(); len(got[len(got)-1]) != n {
				t.Fatalf("the core got %d bytes, want %d", len(got[len(got)-1]), n)
			}
		}
		if err := up.Send(make([]byte, 65537)); !errors.Is(err, tunnel.ErrTooBig) {
			t.Errorf("65537 bytes: %v, want ErrTooBig", err)
		}
	})
}

func TestOpenWithoutCore(t *testing.T) {
	a := tunnel.NewAcceptor(edge("core1"))
	if _, err := a.Open(sip(1), newClient()); !errors.Is(err, tunnel.ErrNoCore) {
		t.Errorf("%v, want ErrNoCore", err)
	}
	if _, err := a.Open(tunnel.Info{Service: "sip", Path: strings.Repeat("x", 5000)}, newClient()); err == nil || !strings.Contains(err.Error(), "path") {
		t.Errorf("error %v does not name the path", err)
	}
}
