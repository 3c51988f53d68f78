package pushtest_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sallyport/core/push/pushtest"
)

// raw is a client that sends frames and notes those that come.
type raw struct {
	t      *testing.T
	p      *provider
	framer *http2.Framer
	next   uint32
	enc    *hpack.Encoder
	block  bytes.Buffer
}

func (p *provider) raw() *raw {
	p.t.Helper()
	c, err := p.listen.Dial(p.t.Context(), "", "")
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	s := tls.Client(c, p.tls())
	if _, err := s.Write([]byte(http2.ClientPreface)); err != nil {
		p.t.Fatal(err)
	}
	r := &raw{t: p.t, p: p, framer: http2.NewFramer(s, s), next: 1}
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.enc = hpack.NewEncoder(&r.block)
	if err := r.framer.WriteSettings(); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// open begins a push and leaves it unfinished; finish ends it.
func (r *raw) open(q *request) (id uint32) {
	block := r.fields(q)
	id = r.next
	r.next += 2
	if err := r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}); err != nil {
		r.t.Fatal(err)
	}
	return id
}

// fields are the headers of a push as they are on the wire.
func (r *raw) fields(q *request) []byte {
	r.block.Reset()
	write := func(name, value string) { _ = r.enc.WriteField(hpack.HeaderField{Name: name, Value: value}) }
	write(":method", q.method)
	write(":scheme", "https")
	write(":authority", "localhost")
	write(":path", q.path)
	for name, values := range q.header {
		write(strings.ToLower(name), values[0])
	}
	return r.block.Bytes()
}

func (r *raw) finish(id uint32) {
	if err := r.framer.WriteData(id, true, []byte(`{"aps":{}}`)); err != nil {
		r.t.Fatal(err)
	}
}

// read reads frames up to the answer to, or end of, a stream, or a GOAWAY, and
// tells what it saw.
func (r *raw) read() (seen []string) {
	for {
		f, err := r.framer.ReadFrame()
		if err != nil {
			return append(seen, "end")
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if v, ok := f.Value(http2.SettingMaxConcurrentStreams); ok {
				seen = append(seen, fmt.Sprintf("streams=%d", v))
			}
		case *http2.MetaHeadersFrame:
			seen = append(seen, "status="+f.PseudoValue("status"))
			if f.StreamEnded() {
				return seen
			}
		case *http2.DataFrame:
			return append(seen, string(f.Data()))
		case *http2.RSTStreamFrame:
			return append(seen, f.ErrCode.String())
		case *http2.GoAwayFrame:
			return append(seen, fmt.Sprintf("goaway %d %s", f.LastStreamID, f.DebugData()))
		}
	}
}

func (r *raw) want(want string) {
	r.t.Helper()
	if got := strings.Join(r.read(), " "); got != want {
		r.t.Errorf("saw %q, want %q", got, want)
	}
}

func TestRule1_OnlyHTTP2OverTLS12(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		for name, change := range map[string]func(*tls.Config){
			"HTTP/1.1": func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} },
			"no ALPN":  func(c *tls.Config) { c.NextProtos = nil },
			"TLS 1.1":  func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 },
		} {
			c, err := p.listen.Dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			cfg := p.tls()
			change(cfg)
			s := tls.Client(c, cfg)
			if err := s.Handshake(); err == nil {
				if _, err := s.Read(make([]byte, 1)); err == nil {
					t.Errorf("%s: served", name)
				}
			}
			c.Close()
		}
	})
}

func TestRule2_3_4_6_Streams(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{MaxStreams: 3}, func(t *testing.T, p *provider) {
		r := p.raw()
		phone, gone := p.phone(), p.phone()
		p.sim.Unregister(gone, time.Unix(946684800, 0))
		call := p.call(phone, nil)
		first := r.open(call)
		r.open(call)
		r.want("streams=1 REFUSED_STREAM") // one until a token was accepted
		r.finish(first)
		r.want("streams=3 status=200")
		a, b, c := r.open(call), r.open(call), r.open(call)
		r.open(call)
		r.want("REFUSED_STREAM")
		for _, id := range []uint32{a, b, c} {
			r.finish(id)
			r.want("status=200")
		}
		r.finish(r.open(p.call(gone, nil)))
		r.want(`status=410 {"reason":"Unregistered","timestamp":946684800000}`) // does not count
		r.finish(r.open(p.call(phone, set("apns-priority", "7"))))
		r.want(`streams=1 status=400 {"reason":"BadPriority"}`)
		r.finish(r.open(call))
		r.want("streams=3 status=200")
		if n := p.sim.Stats().Refused; n != 2 {
			t.Errorf("%d refused, want 2", n)
		}
	})
}

func TestRule5_TooManyBadTokensEndTheConnection(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{BadTokenLimit: 2}, func(t *testing.T, p *provider) {
		r := p.raw()
		bad := p.call(strings.Repeat("ab", 32), nil)
		r.finish(r.open(bad))
		r.want(`streams=1 status=400 {"reason":"BadDeviceToken"}`)
		r.finish(r.open(bad))
		r.want(`status=400 {"reason":"BadDeviceToken"}`)
		r.want(`goaway 3 {"reason":"BadDeviceToken"}`)
		r.finish(r.open(bad)) // not processed
		synctest.Wait()
		if n := len(p.sim.Pushes()); n != 2 {
			t.Errorf("%d pushes, want 2", n)
		}
	})
}

func TestRule26_FaultsOnDemand(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		phone, other := p.phone(), p.phone()
		p.sim.Inject(pushtest.Fault{Status: 503, Reason: "ServiceUnavailable", Count: 2})
		p.want(p.call(phone, nil), "503 ServiceUnavailable")
		p.want(p.call(phone, nil), "503 ServiceUnavailable")
		p.want(p.call(phone, nil), "200")

		p.sim.Inject(pushtest.Fault{Status: 429, Reason: "TooManyRequests", Token: other})
		p.want(p.call(phone, nil), "200")
		p.want(p.call(other, nil), "429 TooManyRequests")

		p.sim.Inject(pushtest.Fault{HTML: true})
		p.want(p.call(phone, nil), "502")

		p.sim.Inject(pushtest.Fault{Reset: true})
		if _, err := p.try(p.call(phone, nil)); err == nil {
			t.Error("no error from a stream that was reset")
		}

		p.sim.SetLatency(3 * time.Second)
		start := time.Now()
		p.want(p.call(phone, nil), "200")
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
		p.sim.ClearFaults()

		if err := p.sim.RotateCertificate(); err != nil {
			t.Fatal(err)
		}
		p.reconnect()
		p.want(p.call(phone, nil), "200")

		p.sim.BlackHole()
		start = time.Now()
		if _, err := p.try(p.call(phone, nil)); err == nil || time.Since(start) != time.Minute {
			t.Errorf("a black hole answered after %v: %v", time.Since(start), err)
		}
		p.sim.Disconnect()
		p.reconnect()
		p.want(p.call(phone, nil), "200")
		p.sim.GoAway("Shutdown")
		p.want(p.call(phone, nil), "200")
	})
}

func TestPushesAreSeen(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		phone := p.phone()
		seen := make(chan pushtest.Push, 2)
		p.sim.OnPush = func(p pushtest.Push) { seen <- p }
		p.want(p.call(phone, set("apns-priority", "7")), "400 BadPriority")
		p.want(p.call(phone, nil), "200")
		got := <-seen
		if got.Token != phone || got.Topic != bundle+".voip" || string(got.Payload) != `{"aps":{}}` || got.Conn != 1 {
			t.Errorf("seen %+v", got)
		}
		if text := got.String(); strings.Contains(text, phone) || !strings.Contains(text, phone[len(phone)-6:]) {
			t.Errorf("shown as %q", text)
		}
		if n, m := len(p.sim.Pushes()), len(p.sim.Accepted()); n != 2 || m != 1 {
			t.Errorf("%d pushes, %d accepted", n, m)
		}
	})
}

func TestStrangersDoNoHarm(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		for _, text := range []string{"", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff", http2.ClientPreface} {
			c, err := p.listen.Dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write([]byte(text))
			synctest.Wait()
			c.Close()
		}
		r := p.raw()
		r.block.Reset()
		_ = r.enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("x", 100_000)})
		for i := 0; i < r.block.Len(); i += 16_000 {
			part := r.block.Bytes()[i:min(i+16_000, r.block.Len())]
			last := i+16_000 >= r.block.Len()
			if i == 0 {
				_ = r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: part, EndHeaders: last})
			} else {
				_ = r.framer.WriteContinuation(1, last, part)
			}
		}
		p.want(p.call(p.phone(), nil), "200")
	})
}

func FuzzProviderToken(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJFUzI1NiJ9.e30.")
	sim := pushtest.NewAPNs(pushtest.APNsConfig{})
	f.Fuzz(func(t *testing.T, token string) {
		if pushtest.Verify(sim, token) {
			t.Fatalf("%q is taken", token)
		}
	})
}
