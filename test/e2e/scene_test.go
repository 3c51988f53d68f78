package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"sallyport/core/admin"
	"sallyport/test/phone"
)

// A scene is where a story is told: a town, one of its domains, and the
// transport of the phone that the story is about. Who calls uses the other.
type scene struct {
	*Town
	t         *testing.T
	ctx       context.Context
	domain    string
	transport phone.Transport
	phones    []*phone.Phone
}

// everywhere tells a story at a PBX and in a stand-alone domain, over TLS and
// over WebSocket.
func everywhere(t *testing.T, cfg Config, story func(s *scene)) {
	at(t, PBXDomain, cfg, story)
	at(t, Domain, cfg, story)
}

// at tells a story in one domain, over both transports. Afterwards no phone
// may have stumbled over what it was sent, nor Apple over what it was asked.
func at(t *testing.T, domain string, cfg Config, story func(s *scene)) {
	for _, tr := range []phone.Transport{phone.TLS, phone.WSS} {
		t.Run(domain+"/"+string(tr), func(t *testing.T) {
			t.Parallel()
			cfg := cfg
			cfg.PBX = domain == PBXDomain
			town, ctx := inTown(t, cfg)
			s := &scene{Town: town, t: t, ctx: ctx, domain: domain, transport: tr}
			story(s)
			for _, p := range s.phones {
				for _, c := range p.Complaints() {
					t.Errorf("%s complains: %s", p.AOR(), c)
				}
			}
			for _, v := range town.APNs.Violations() {
				t.Errorf("Apple's rules: %s", v)
			}
		})
	}
}

// new makes a phone that the story is about.
func (s *scene) new(user string, change ...func(*phone.Config)) *phone.Phone {
	cfg := s.PhoneConfig(user, s.domain, s.transport)
	for _, f := range change {
		f(&cfg)
	}
	p := phone.New(cfg)
	s.t.Cleanup(p.Close)
	s.phones = append(s.phones, p)
	return p
}

// caller makes a phone over the other transport, registered.
func (s *scene) caller(user string) *phone.Phone {
	other := phone.WSS
	if s.transport == phone.WSS {
		other = phone.TLS
	}
	p := s.new(user, func(c *phone.Config) { *c = s.PhoneConfig(user, s.domain, other) })
	s.registers(p, user)
	return p
}

// online makes a phone and registers it with the push tokens of user.
func (s *scene) online(user string, change ...func(*phone.Config)) *phone.Phone {
	s.t.Helper()
	p := s.new(user, change...)
	s.registers(p, user)
	return p
}

// registers connects a phone and registers it, as an app does when it starts
// and in its push handler.
func (s *scene) registers(p *phone.Phone, user string) {
	s.t.Helper()
	s.registersAs(p, phone.Registration{Push: s.PushOf(user), RegID: 1})
}

func (s *scene) registersAs(p *phone.Phone, r phone.Registration) {
	s.t.Helper()
	ok(s.t, p.Connect(s.ctx))
	must[*phone.Message](s.t)(p.Register(s.ctx, r))
}

// asleep is a phone that was online, and of which the core knows that it is
// no more.
func (s *scene) asleep(user string, change ...func(*phone.Config)) *phone.Phone {
	s.t.Helper()
	p := s.online(user, change...)
	s.sleeps(p)
	return p
}

func (s *scene) sleeps(p *phone.Phone) {
	s.t.Helper()
	p.Sleep()
	s.until("the core knows that "+p.AOR()+" sleeps", func() bool {
		c, known := s.client(p)
		return !known || c.Flow == nil
	})
}

// until asks again and again until what is waited for is so.
func (s *scene) until(what string, so func() bool) {
	s.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			s.t.Fatalf("not in time: %s", what)
		}
	}
}

func (s *scene) uri(user string) string { return "sip:" + user + "@" + s.domain }

func (s *scene) call(from *phone.Phone, user string, headers ...phone.Header) *phone.Dialog {
	s.t.Helper()
	return must[*phone.Dialog](s.t)(from.Call(s.ctx, s.uri(user), headers...))
}

// atOnce is what a busy machine may take for what waits for nothing: less than
// half of the window of 13 s.
const atOnce = 5 * time.Second

// ends waits for the final response of a call and returns how long it took.
func (s *scene) ends(call *phone.Dialog, status int) time.Duration {
	s.t.Helper()
	start := time.Now()
	must[*phone.Message](s.t)(call.Wait(s.ctx, status))
	return time.Since(start)
}

func (s *scene) rings(p *phone.Phone) *phone.Incoming { s.t.Helper(); return ring(s.t, s.ctx, p) }

// talks lets a phone ring and answer, and returns its end of the dialog.
func (s *scene) talks(p *phone.Phone, call *phone.Dialog) *phone.Dialog {
	s.t.Helper()
	in := s.rings(p)
	ok(s.t, in.Ring())
	must[*phone.Message](s.t)(call.Wait(s.ctx, 180))
	d := must[*phone.Dialog](s.t)(in.Answer())
	ok(s.t, call.Answered(s.ctx))
	ok(s.t, d.WaitAck(s.ctx))
	return d
}

// heard says how many requests of a method have reached a phone: what was sent
// to it before the barrier has arrived.
func (s *scene) heard(p *phone.Phone, method string, want int) {
	s.t.Helper()
	ok(s.t, p.Ping(s.ctx))
	if got := p.Count(method); got != want {
		s.t.Errorf("%s heard %d %s, want %d", p.AOR(), got, method, want)
	}
}

// A push is what Apple was asked to show, and to whom.
type push struct {
	Token, Topic string
	Channel      string `json:"channel"`
	Event        string `json:"event"`
	CallID       string `json:"call_id"`
	FromURI      string `json:"from_uri"`
	FromName     string `json:"from_name"`
	Number       string `json:"number"`
	To           string `json:"to"`
	Video        bool   `json:"video"`
}

// pushes are those that Apple accepted so far.
func (s *scene) pushes() (all []push) {
	for _, p := range s.APNs.Accepted() {
		out := push{Token: p.Token, Topic: p.Topic}
		ok(s.t, json.Unmarshal(p.Payload, &out))
		all = append(all, out)
	}
	return all
}

// pushed waits until n pushes were accepted, and returns the last.
func (s *scene) pushed(n int) push {
	s.t.Helper()
	s.until("a push", func() bool { return len(s.APNs.Accepted()) >= n })
	return s.pushes()[n-1]
}

// onlyPushes says that no more than n pushes have left: one to a witness that
// leaves after them, on the same connections, comes next.
func (s *scene) onlyPushes(n int) {
	s.t.Helper()
	w := phone.New(s.PhoneConfig("witness", Domain, phone.TLS))
	defer w.Close()
	s.registers(w, "witness")
	var answer admin.PushTestAnswer
	s.post("/api/v1/push/test", admin.PushTestRequest{AOR: "witness@" + Domain}, &answer)
	all := s.pushes()
	if len(all) != n+1 || all[n].To != "sip:witness@"+Domain {
		s.t.Errorf("%d pushes, want %d: %+v", len(all)-1, n, all)
	}
}

// client is what the core's API says of a phone.
func (s *scene) client(p *phone.Phone) (admin.Client, bool) {
	s.t.Helper()
	var all []admin.Client
	s.get("/api/v1/clients?aor="+p.AOR(), &all)
	for _, c := range all {
		if c.Instance == p.Instance() {
			return c, true
		}
	}
	return admin.Client{}, false
}

// get asks the core's API.
func (s *scene) get(path string, answer any) {
	s.t.Helper()
	ok(s.t, json.Unmarshal(s.http(http.MethodGet, path, nil), answer))
}

func (s *scene) post(path string, question, answer any) {
	s.t.Helper()
	body := must[[]byte](s.t)(json.Marshal(question))
	ok(s.t, json.Unmarshal(s.http(http.MethodPost, path, body), answer))
}

func (s *scene) http(method, path string, body []byte) []byte {
	s.t.Helper()
	req := must[*http.Request](s.t)(http.NewRequestWithContext(s.ctx, method, "http://"+s.Admin+path, bytes.NewReader(body)))
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp := must[*http.Response](s.t)(client.Do(req))
	defer resp.Body.Close()
	text := must[[]byte](s.t)(io.ReadAll(resp.Body))
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return text
}
