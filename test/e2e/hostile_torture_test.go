package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sallyport/core"
	"sallyport/edge"
	"sallyport/tunnel/unit"
)

// An ordeal is one message of RFC 4475 and what comes of it: the
// status of each answer, "close" where the connection ends, nothing where the
// message is thrown away. In a message that is valid a client that has not
// registered is told 403 by decision 4, after the message was understood and
// before anything came of it. stream is that of SIP over TLS and TCP where it
// differs from WebSocket and UDP, whose messages have ends of their own.
type ordeal struct {
	name, section          string
	client, clientOnStream string
	pbx, pbxOnStream       string
}

// ordeals are all 50. A client's REGISTER is answered by the PBX, which wants
// credentials of everybody.
var ordeals = []ordeal{
	{"wsinv", "3.1.1.1 a short tortuous INVITE, in a dialog", "403", "", "480", ""},
	{"intmeth", "3.1.1.2 wide range of valid characters", "403", "", "480", ""},
	{"esc01", "3.1.1.3 valid use of the % escaping mechanism", "403", "", "404", ""},
	{"escnull", "3.1.1.4 escaped nulls in URIs: two contacts, of which a client has one", "400", "", "403", ""},
	{"esc02", "3.1.1.5 use of % when it is not an escape: no REGISTER", "403", "", "404", ""},
	{"lwsdisp", "3.1.1.6 no LWS between display name and <", "200", "", "480", ""},
	{"longreq", "3.1.1.7 long values in header fields", "403", "", "480", ""},
	{"dblreq", "3.1.1.8 extra trailing octets in a datagram; on a stream the next request, and then noise", "401", "401 403 close", "403", "403 480 close"},
	{"semiuri", "3.1.1.9 semicolon-separated parameters in the user part", "200", "", "480", ""},
	{"transports", "3.1.1.10 varied and unknown transport types", "200", "", "480", ""},
	{"mpart01", "3.1.1.11 multipart MIME message with NULs", "403", "", "404", ""},
	{"unreason", "3.1.1.12 unusual reason phrase: a response to nothing we sent", "", "", "", ""},
	{"noreason", "3.1.1.13 empty reason phrase: a response to nothing we sent", "", "", "", ""},
	{"badinv01", "3.1.2.1 extraneous separators: no Via to answer by", "close", "", "", ""},
	{"clerr", "3.1.2.2 Content-Length larger than the message", "400", "close", "400", "close"},
	{"ncl", "3.1.2.3 negative Content-Length", "400", "close", "400", "close"},
	{"scalar02", "3.1.2.4 overlarge scalars in a request", "400", "", "400", ""},
	{"scalarlg", "3.1.2.5 overlarge scalars in a response", "", "", "", ""},
	{"quotbal", "3.1.2.6 unterminated quoted string", "400", "", "400", ""},
	{"ltgtruri", "3.1.2.7 <> enclosing the Request-URI", "400", "", "400", ""},
	{"lwsruri", "3.1.2.8 LWS in the Request-URI", "400", "", "400", ""},
	{"lwsstart", "3.1.2.9 multiple SP in the Request-Line", "400", "", "400", ""},
	{"trws", "3.1.2.10 SP at the end of the Request-Line", "400", "", "400", ""},
	{"escruri", "3.1.2.11 escaped headers in the Request-URI", "400", "", "400", ""},
	{"baddate", "3.1.2.12 invalid time zone in Date: nothing of ours", "403", "", "480", ""},
	{"regbadct", "3.1.2.13 failure to enclose a URI in <>", "400", "", "400", ""},
	{"badaspec", "3.1.2.14 spaces within addr-spec", "400", "", "400", ""},
	{"baddn", "3.1.2.15 non-token characters in a display name", "400", "", "400", ""},
	{"badvers", "3.1.2.16 unknown protocol version", "505", "", "505", ""},
	{"mismatch01", "3.1.2.17 start line and CSeq mismatch", "400", "", "400", ""},
	{"mismatch02", "3.1.2.18 unknown method with CSeq mismatch", "400", "", "400", ""},
	{"bigcode", "3.1.2.19 overlarge response code", "", "", "", ""},
	{"badbranch", "3.2.1 missing transaction identifier", "400", "", "400", ""},
	{"insuf", "3.3.1 missing required header fields", "400", "", "400", ""},
	{"unkscm", "3.3.2 Request-URI with unknown scheme", "416", "", "416", ""},
	{"novelsc", "3.3.3 Request-URI with an atypical scheme", "416", "", "416", ""},
	{"unksm2", "3.3.4 unknown schemes in header fields of a REGISTER", "400", "", "400", ""},
	{"bext01", "3.3.5 Proxy-Require and Require", "420", "", "420", ""},
	{"invut", "3.3.6 unknown Content-Type: an end point's", "403", "", "480", ""},
	{"regaut01", "3.3.7 unknown Authorization scheme", "401", "", "403", ""},
	{"multi01", "3.3.8 multiple values in single value fields", "400", "", "400", ""},
	{"mcl01", "3.3.9 multiple Content-Length values", "400", "close", "400", "close"},
	{"bcast", "3.3.10 200 with a broadcast Via", "", "", "", ""},
	{"zeromf", "3.3.11 Max-Forwards of zero: of an OPTIONS we are the end (RFC 3261 §11)", "200", "", "200", ""},
	{"cparam01", "3.3.12 REGISTER with a Contact header parameter", "401", "", "403", ""},
	{"cparam02", "3.3.13 REGISTER with a url-parameter", "401", "", "403", ""},
	{"regescrt", "3.3.14 REGISTER with a URL escaped header", "401", "", "403", ""},
	{"sdp01", "3.3.15 unacceptable Accept: an end point's", "403", "", "480", ""},
	{"inv2543", "3.4.1 INVITE with RFC 2543 syntax; on a stream its body is the next message", "403", "403 close", "480", "480 close"},
	{"test", "in the archive alone: no version, no Via, a header without colon", "close", "", "", "close"},
}

// expect is what comes of an ordeal from a client or a PBX.
func (o ordeal) expect(pbx, stream bool) []string {
	all, onStream := o.client, o.clientOnStream
	if pbx {
		all, onStream = o.pbx, o.pbxOnStream
	}
	if stream && onStream != "" {
		all = onStream
	}
	return strings.Fields(all)
}

// message is the text of an ordeal, byte for byte as RFC 4475's archive has it.
// On a stream it gets the empty line that one of them lacks there (baddn).
func (o ordeal) message(t *testing.T, stream bool) string {
	t.Helper()
	files, err := filepath.Glob("../../core/sipmsg/testdata/*/*_" + o.name + ".dat")
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %v, %v", o.name, files, err)
	}
	raw := string(must[[]byte](t)(os.ReadFile(files[0])))
	if stream && !strings.Contains(raw, "\r\n\r\n") {
		raw += "\r\n"
	}
	return raw
}

// tortured is a town that hears from PBXs on TCP and UDP, and whose edge waits
// a second for a first message.
func tortured(t *testing.T) *Town {
	t.Helper()
	town, _ := inTown(t, Config{
		PBX: true, Users: []string{"j.user", "user", "watson"},
		Edge: func(c *edge.Config) {
			unlimited(c)
			c.Limits.FirstMessageTimeout = unit.Duration{Duration: time.Second}
		},
		Core: func(c *core.Config) {
			c.SIP.Listen = append(c.SIP.Listen, "udp:"+c.SIP.Advertise)
			c.SIP.Trusted = []string{"127.0.0.0/8"}
		},
	})
	return town
}

func TestRFC4475_FromAClientEachMessageHasItsEndAndTheFlowOrTheNextIsServed(t *testing.T) {
	fromClients(t, ordeals)
}

func TestRFC4475_FromThePBXEachMessageHasItsEndAndTheNextIsServed(t *testing.T) {
	t.Run("tcp", func(t *testing.T) { fromPBX(t, ordeals) })
	t.Run("udp", func(t *testing.T) { fromPBXByUDP(t, ordeals) })
}

// fromClients has a flow for each ordeal, on every carrier.
func fromClients(t *testing.T, all []ordeal) {
	town := tortured(t)
	for _, as := range []carrier{overTLS, overText, overBinary} {
		for i, o := range all {
			t.Run(string(as)+"/"+o.name, func(t *testing.T) {
				w := town.plug(t, as)
				message, want := o.message(t, as == overTLS), o.expect(false, as == overTLS)
				if as == overText && !utf8.ValidString(message) { // RFC 6455 §8.1
					want = []string{"close"}
				}
				w.say(message)
				w.bears(want, i, func() *wire { return town.plug(t, as) })
			})
		}
	}
}

// fromPBX does as a PBX does: one connection for all, as long as it lasts.
func fromPBX(t *testing.T, all []ordeal) {
	town := tortured(t)
	again := func() *wire { return town.fromPBX(t) }
	w := again()
	for i, o := range all {
		t.Run(o.name, func(t *testing.T) {
			w.t = t
			w.say(o.message(t, true))
			want := o.expect(true, true)
			if o.name == "clerr" { // half a minute for the rest of it: core/upstream has that
				w, want = again(), nil
			}
			w = w.bears(want, i, again)
		})
	}
}

// fromPBX is a connection of a server to the core.
func (t *Town) fromPBX(tb testing.TB) *wire {
	tb.Helper()
	c, err := new(net.Dialer).DialContext(tb.Context(), "tcp", t.CoreSIP)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return newWire(tb, c, overTLS)
}

// bears hears what comes of an ordeal, and then asks a healthy question: on
// the same wire while it is there, else on another, and returns that. A close
// may outrun the answers before it.
func (w *wire) bears(want []string, n int, another func() *wire) *wire {
	w.t.Helper()
	if len(want) > 0 && want[len(want)-1] == "close" {
		got, err := w.answers(n, len(want))
		if want = want[:len(want)-1]; !errors.Is(err, errEnded) || !among(got, want) {
			w.t.Errorf("it was answered with %v and then %v, want %v and a close", got, err, want)
		}
		other := another()
		other.alive(n)
		return other
	}
	w.say(healthy("TLS", n))
	if got, err := w.answers(n, len(want)); err != nil || len(got) != len(want) || !among(got, want) {
		w.t.Errorf("it was answered with %v, %v, want %v", got, err, want)
	}
	return w
}

// among reports whether each answer is a wanted one. Two requests may be answered
// in either order: a REGISTER has been to the registrar meanwhile.
func among(got, want []string) bool {
	left := slices.Clone(want)
	for _, g := range got {
		i := slices.Index(left, g)
		if i < 0 {
			return false
		}
		left = slices.Delete(left, i, i+1)
	}
	return true
}

// answers are the statuses of so many final answers, with that to a healthy
// question among them, which is left out.
func (w *wire) answers(n, many int) (got []string, err error) {
	for served := false; !served || len(got) < many; {
		answer, err := w.hear(wireLimit)
		switch {
		case err != nil:
			return got, err
		case isHealthy(answer, n):
			served = true
		default:
			got = append(got, status(answer))
		}
		got = slices.DeleteFunc(got, func(s string) bool { return s == "100" })
	}
	return got, nil
}

func status(answer string) string { return answer[len("SIP/2.0 "):len("SIP/2.0 100")] }

func fromPBXByUDP(t *testing.T, all []ordeal) {
	town := tortured(t)
	server := newDatagrams(t, town.CoreSIP)
	for i, o := range all {
		t.Run(o.name, func(t *testing.T) {
			server.say(t, o.message(t, false))
			server.say(t, healthy("UDP", i))
			var got []string
			for served, want := false, o.expect(true, false); !served || len(got) < len(want); {
				answer := server.hear(t)
				switch {
				case isHealthy(answer, i):
					served = true
				case status(answer) != "100":
					got = append(got, status(answer))
				}
			}
			if want := o.expect(true, false); !slices.Equal(got, want) {
				t.Errorf("it was answered with %v, want %v", got, want)
			}
		})
	}
}

// datagrams is a server that sends and hears UDP on the ports which the
// messages of RFC 4475 name in their Via, at an address of its own.
type datagrams struct {
	core  net.Addr
	socks []net.PacketConn
	heard chan string
	seen  map[string]bool
}

func newDatagrams(t *testing.T, to string) *datagrams {
	t.Helper()
	d := &datagrams{core: must[*net.UDPAddr](t)(net.ResolveUDPAddr("udp", to)), heard: make(chan string, 1024), seen: make(map[string]bool)}
	lc := net.ListenConfig{}
	for _, at := range []string{"127.44.75.1:5060", "127.44.75.1:5050"} {
		c, err := lc.ListenPacket(context.Background(), "udp", at)
		ok(t, err)
		t.Cleanup(func() { _ = c.Close() })
		d.socks = append(d.socks, c)
		go func() {
			for buf := make([]byte, 64<<10); ; {
				n, _, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				d.heard <- string(buf[:n])
			}
		}()
	}
	return d
}

func (d *datagrams) say(t *testing.T, p string) {
	t.Helper()
	_ = must[int](t)(d.socks[0].WriteTo([]byte(p), d.core))
}

// hear is the next answer. That to an INVITE is repeated, and heard once.
func (d *datagrams) hear(t *testing.T) string {
	t.Helper()
	late := time.After(wireLimit)
	for {
		select {
		case p := <-d.heard:
			if again := d.seen[p]; !again {
				d.seen[p] = strings.Contains(p, " INVITE\r\n")
				return p
			}
		case <-late:
			t.Fatal("no answer")
		}
	}
}
