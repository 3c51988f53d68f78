package frame_test

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sallyport/tunnel/frame"
)

func hello() frame.Hello {
	return frame.Hello{
		MinMinor: 1, MaxMinor: 3, Features: frame.FeatureResume, Role: frame.RoleCore, Node: "core1", Boot: 7,
		Link: 1, Links: 2, Session: 8, RxOffset: 9, Window: 65536, MaxFrame: 65536, MaxFlows: 100,
		Services: []string{"sip", "xmpp"}, Weight: 5, Draining: true, Build: "v1", Resume: true,
	}
}

func info() frame.Info {
	return frame.Info{
		UUID: [16]byte{1, 2, 3}, Service: "sip", Transport: "wss",
		Remote: netip.MustParseAddrPort("192.0.2.7:5061"), Public: "edge.example.com:443",
		SNI: "edge.example.com", Host: "edge.example.com:443", Path: "/ws?x=1", Origin: "https://a.example",
		Subprotocol: "sip", TLSVersion: 0x303, FlowTimer: 2 * time.Minute, Since: time.UnixMilli(1_700_000_000_000), Reopened: true, Silent: true, Narrow: true,
	}
}

// payload returns the payload of the one frame b holds.
func payload(t testing.TB, b []byte, want frame.Type) []byte {
	t.Helper()
	h, err := frame.ParseHeader(b)
	if err != nil {
		t.Fatalf("header: %v", err)
	}
	if h.Type != want || h.Len != len(b)-frame.HeaderLen {
		t.Fatalf("header %+v of %d bytes, want %v", h, len(b), want)
	}
	return b[frame.HeaderLen:]
}

func TestHelloIsReadAsItWasSaid(t *testing.T) {
	b, err := frame.AppendHello(nil, hello())
	if err != nil {
		t.Fatal(err)
	}
	p := payload(t, b, frame.TypeHello)
	p = append(p, 200, 0, 3, 'n', 'e', 'w') // a field of a later version
	got, err := frame.ParseHello(p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(hello(), got); diff != "" {
		t.Errorf("(-said +read)\n%s", diff)
	}
}

func TestHelloNamesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*frame.Hello)
		want   string
	}{
		"no name":             {func(h *frame.Hello) { h.Node = "" }, "node name"},
		"long name":           {func(h *frame.Hello) { h.Node = strings.Repeat("x", 256) }, "node name"},
		"control in name":     {func(h *frame.Hello) { h.Node = "core\n1" }, "control character"},
		"no role":             {func(h *frame.Hello) { h.Role = 9 }, "role"},
		"window of nothing":   {func(h *frame.Hello) { h.Window = 0 }, "window"},
		"window of gigabytes": {func(h *frame.Hello) { h.Window = 1 << 31 }, "window"},
		"tiny frames":         {func(h *frame.Hello) { h.MaxFrame = 10 }, "largest frame"},
		"link beyond links":   {func(h *frame.Hello) { h.Link = 2 }, "link 2 of 2"},
		"minors crossed":      {func(h *frame.Hello) { h.MinMinor = 4 }, "minor"},
		"no weight":           {func(h *frame.Hello) { h.Weight = 0 }, "weight"},
		"nameless service":    {func(h *frame.Hello) { h.Services[0] = "" }, "service"},
		"many services":       {func(h *frame.Hello) { h.Services = make([]string, 17) }, "services"},
	} {
		t.Run(name, func(t *testing.T) {
			h := hello()
			c.change(&h)
			if _, err := frame.AppendHello(nil, h); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not name %q", err, c.want)
			}
		})
	}
	b, _ := frame.AppendHello(nil, hello())
	p := payload(t, b, frame.TypeHello)
	for name, bad := range map[string][]byte{
		"cut off":         p[:len(p)-1],
		"said twice":      append(bytes.Clone(p), p[:7]...),
		"number too long": append(bytes.Clone(p[7:]), 1, 0, 5, 0, 0, 0, 0, 0),
		"empty":           {},
	} {
		if _, err := frame.ParseHello(bad); !errors.Is(err, frame.ErrSyntax) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenIsReadAsItWasSaid(t *testing.T) {
	for name, change := range map[string]func(*frame.Info){
		"all":       func(*frame.Info) {},
		"v6":        func(i *frame.Info) { i.Remote = netip.MustParseAddrPort("[2001:db8::1]:1") },
		"v4 in v6":  func(i *frame.Info) { i.Remote = netip.MustParseAddrPort("[::ffff:192.0.2.1]:1") },
		"no remote": func(i *frame.Info) { i.Remote = netip.AddrPort{} },
		"least":     func(i *frame.Info) { *i = frame.Info{UUID: [16]byte{1}, Service: "sip"} },
		"longest": func(i *frame.Info) {
			i.Service, i.Transport = strings.Repeat("s", 32), strings.Repeat("t", 16)
			i.Public, i.SNI, i.Host = strings.Repeat("p", 300), strings.Repeat("n", 255), strings.Repeat("h", 300)
			i.Path, i.Origin, i.Subprotocol = strings.Repeat("/", 1024), strings.Repeat("o", 512), strings.Repeat("u", 64)
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := info()
			change(&want)
			if err := want.Check(); err != nil {
				t.Fatal(err)
			}
			p := payload(t, frame.AppendOpen(nil, 3, &want), frame.TypeOpen)
			p = append(p, 99, 0, 0)
			got, err := frame.ParseOpen(p, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("(-said +read)\n%s", diff)
			}
		})
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	for want, change := range map[string]func(*frame.Info){
		"service":     func(i *frame.Info) { i.Service = "" },
		"Host":        func(i *frame.Info) { i.Host = strings.Repeat("h", 301) },
		"path":        func(i *frame.Info) { i.Path = "/\x00" },
		"Origin":      func(i *frame.Info) { i.Origin = strings.Repeat("o", 513) },
		"SNI":         func(i *frame.Info) { i.SNI = strings.Repeat("o", 256) },
		"subprotocol": func(i *frame.Info) { i.Subprotocol = "a\nb" },
	} {
		i := info()
		change(&i)
		if err := i.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check: error %v does not name %q", err, want)
		}
		p := frame.AppendOpen(nil, 1, &i)[frame.HeaderLen:]
		if _, err := frame.ParseOpen(p, nil); !errors.Is(err, frame.ErrSyntax) || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseOpen: error %v does not name %q", err, want)
		}
	}
}

func TestHeaderRefusesWhatNoFrameMayClaim(t *testing.T) {
	for name, c := range map[string]struct {
		n    int
		typ  frame.Type
		flow uint32
		ok   bool
	}{
		"longest message":          {65536, frame.TypeData, 1, true},
		"longer message":           {65537, frame.TypeData, 1, false},
		"empty message":            {0, frame.TypeData, 1, false},
		"message of no flow":       {5, frame.TypeData, 0, false},
		"16 MiB":                   {1<<24 - 1, frame.TypeData, 1, false},
		"short credit":             {3, frame.TypeCredit, 1, false},
		"ping of a flow":           {8, frame.TypePing, 1, false},
		"ping":                     {8, frame.TypePing, 0, true},
		"long hello":               {4097, frame.TypeHello, 0, false},
		"close without code":       {1, frame.TypeClose, 1, false},
		"close with a novel":       {2 + 256, frame.TypeClose, 1, false},
		"unknown":                  {4, 0x3f, 1, false},
		"unknown, skippable":       {4, 0x80, 1, true},
		"skippable of the session": {65536, 0xff, 0, true},
		"notice of a flow":         {2, frame.TypeNotice, 1, false},
		"notice too long":          {2049, frame.TypeNotice, 0, false},
		"no notice any more":       {0, frame.TypeNotice, 0, true},
		"skippable but long":       {65537, 0xff, 0, false},
		"ack":                      {8, frame.TypeAck, 0, true},
		"ack of a flow":            {8, frame.TypeAck, 1, false},
		"datagram not agreed on":   {8, frame.TypeDgram, 1, false},
		"a piece":                  {65536, frame.TypePart, 1, true},
		"an empty piece":           {0, frame.TypePart, 1, false},
	} {
		_, err := frame.ParseHeader(frame.AppendHeader(nil, c.typ, c.flow, c.n))
		if c.ok != (err == nil) || err != nil && !errors.Is(err, frame.ErrSyntax) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The two bits let a node without a type's description do the right thing.
func TestTypesSortThemselves(t *testing.T) {
	for _, typ := range []frame.Type{frame.TypeOpen, frame.TypeData, frame.TypeCredit, frame.TypeClose, frame.TypeEvent, frame.TypePart, 0x80} {
		if !typ.Sequenced() {
			t.Errorf("%v is not sequenced", typ)
		}
	}
	for _, typ := range []frame.Type{frame.TypeHello, frame.TypeAck, frame.TypePing, frame.TypePong, frame.TypeDrain, frame.TypeGoAway, frame.TypeDgram, frame.TypeNotice, 0xc0} {
		if typ.Sequenced() {
			t.Errorf("%v is sequenced", typ)
		}
	}
}

func TestCodes(t *testing.T) {
	for code, want := range map[frame.CloseCode]string{
		frame.CloseClient: "client-closed", frame.CloseReset: "client-reset", frame.CloseKeepalive: "keepalive-lost",
		frame.CloseSlowConsumer: "slow-consumer", frame.CloseProtocol: "protocol", frame.ClosePolicy: "policy",
		frame.CloseDrain: "drain", frame.CloseTunnelLost: "tunnel-lost", frame.CloseKicked: "kicked",
		frame.CloseReconnect: "reconnect", 0: "close-0", 777: "close-777",
	} {
		if got := code.String(); got != want {
			t.Errorf("%d is %q, want %q", code, got, want)
		}
	}
	long := strings.Repeat("é", 200)
	code, text := frame.ParseClose(payload(t, frame.AppendClose(nil, 1, frame.CloseDrain, long), frame.TypeClose))
	if code != frame.CloseDrain || text != long[:254] {
		t.Errorf("close: %v %d bytes", code, len(text))
	}
	away, text := frame.ParseGoAway(payload(t, frame.AppendGoAway(nil, frame.GoAwayVersion, "old\xff"), frame.TypeGoAway))
	if away != frame.GoAwayVersion || text != "old?" {
		t.Errorf("goaway: %v %q", away, text)
	}
}

// TU-5: what a stranger sends costs little, however large it claims to be.
func TestTU5_AllocationIsBounded(t *testing.T) {
	services := []byte{}
	for range frame.MaxHello / 4 {
		services = append(services, 12, 0, 1, 'x')
	}
	twice := bytes.Repeat([]byte{7, 0, 1, 'x'}, frame.MaxOpen/4)
	long := make([]byte, 1<<20)
	for name, f := range map[string]func(){
		"hello of services": func() { _, _ = frame.ParseHello(services) },
		"hello too long":    func() { _, _ = frame.ParseHello(long) },
		"open of hosts":     func() { _, _ = frame.ParseOpen(twice, nil) },
		"huge header":       func() { _, _ = frame.ParseHeader([]byte{255, 255, 255, 2, 0, 0, 0, 1}) },
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 10 {
			f()
		}
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) / 10; got > 128<<10 {
			t.Errorf("%s: %d bytes allocated", name, got)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(frame.AppendHeader(nil, frame.TypeData, 1, 65536))
	f.Add([]byte{255, 255, 255, 0x80, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < frame.HeaderLen {
			return
		}
		h, err := frame.ParseHeader(b)
		if err != nil {
			if !errors.Is(err, frame.ErrSyntax) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if h.Len > frame.MaxPayload {
			t.Fatalf("%+v was let pass", h)
		}
		if again := frame.AppendHeader(nil, h.Type, h.Flow, h.Len); !bytes.Equal(again, b[:frame.HeaderLen]) {
			t.Fatalf("% x was read and written as % x", b[:frame.HeaderLen], again)
		}
		p := b[frame.HeaderLen:]
		if len(p) >= h.Len {
			switch h.Type {
			case frame.TypeClose:
				frame.ParseClose(p[:h.Len])
			case frame.TypeGoAway:
				frame.ParseGoAway(p[:h.Len])
			}
		}
	})
}

func FuzzHello(f *testing.F) {
	b, _ := frame.AppendHello(nil, hello())
	f.Add(b[frame.HeaderLen:])
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := frame.ParseHello(p)
		if err != nil {
			return
		}
		b, err := frame.AppendHello(nil, h)
		if err != nil {
			t.Fatalf("read, but not to be said again: %v", err)
		}
		again, err := frame.ParseHello(b[frame.HeaderLen:])
		if err != nil || !reflect.DeepEqual(h, again) {
			t.Fatalf("%+v became %+v: %v", h, again, err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	i := info()
	f.Add(frame.AppendOpen(nil, 1, &i)[frame.HeaderLen:])
	f.Fuzz(func(t *testing.T, p []byte) {
		got, err := frame.ParseOpen(p, nil)
		if err != nil {
			if !errors.Is(err, frame.ErrSyntax) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if err := got.Check(); err != nil {
			t.Fatalf("read, but not to be said again: %v", err)
		}
		b := frame.AppendOpen(nil, 1, got)
		if len(b) > frame.HeaderLen+frame.MaxOpen {
			t.Fatalf("said again in %d bytes", len(b))
		}
		again, err := frame.ParseOpen(b[frame.HeaderLen:], nil)
		if err != nil || *again != *got {
			t.Fatalf("%+v became %+v: %v", got, again, err)
		}
	})
}
