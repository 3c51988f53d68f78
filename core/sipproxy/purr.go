package sipproxy

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
	"sallyport/core/sipmsg"
	"sallyport/core/wake"
)

// A PURR (RFC 8599 §6) is what a client puts into the Contact of a dialog in
// which it wants to be woken for requests. Ours is the client's token and the
// day, encrypted under a key of the store's by their own MAC (as RFC 5297
// does): nobody else can make one, read one, or tell that two of different days
// are one client's; and nothing has to be stored, so that one is honoured for as
// long as its key is, which is longer than dialogs live.

const (
	purrDay   = 24 * time.Hour
	purrTag   = 16             // bytes of MAC, and the cipher's initial counter
	purrToken = 17             // bytes of a token's 130 bits
	purrBody  = purrToken + 2  // and the day
	purrLen   = (35*8 + 4) / 5 // characters of tag and body
	maxPurr   = 256            // characters of anybody's
	tokenPad  = "aaaaaa"       // makes a token whole bytes
)

// purrKey is what one of the store's keys gives for PURRs.
type purrKey struct {
	mac   []byte
	block cipher.Block
}

func purrKeys(keys [][]byte) (out []purrKey) {
	derive := func(key []byte, use string) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(use))
		return mac.Sum(nil)
	}
	for _, key := range keys {
		block, err := aes.NewCipher(derive(key, "purr cipher"))
		if err != nil { // of a key of 32 bytes: never
			continue
		}
		out = append(out, purrKey{mac: derive(key, "purr mac"), block: block})
	}
	return out
}

func (k *purrKey) tag(body []byte) []byte {
	mac := hmac.New(sha256.New, k.mac)
	mac.Write(body)
	return mac.Sum(nil)[:purrTag]
}

// purr is the PURR of a binding, by its token, on the day of now.
func (p *Proxy) purr(token string, now time.Time) string {
	raw, err := tokenText.DecodeString(token + tokenPad)
	if err != nil || len(raw) < purrToken || len(p.purrs) == 0 {
		return ""
	}
	body := binary.BigEndian.AppendUint16(raw[:purrToken:purrToken], uint16(now.Unix()/int64(purrDay/time.Second)))
	out := p.purrs[0].tag(body)
	cipher.NewCTR(p.purrs[0].block, out).XORKeyStream(body, body)
	return tokenText.EncodeToString(append(out, body...))
}

// ofPurr finds the device that we gave a PURR.
func (p *Proxy) ofPurr(s string) (location.DeviceID, bool) {
	token, ok := p.unpurr(s)
	if !ok {
		return location.DeviceID{}, false
	}
	return p.loc.Owner(token)
}

// unpurr is the token in a PURR that we made, under the newest key or the one
// before.
func (p *Proxy) unpurr(s string) (token string, ok bool) {
	if len(s) != purrLen {
		return "", false
	}
	raw, err := tokenText.DecodeString(s)
	if err != nil || len(raw) != purrTag+purrBody {
		return "", false
	}
	for _, k := range p.purrs {
		body := make([]byte, purrBody)
		cipher.NewCTR(k.block, raw[:purrTag]).XORKeyStream(body, raw[purrTag:])
		if hmac.Equal(k.tag(body), raw[:purrTag]) {
			return tokenText.EncodeToString(append(body[:purrToken:purrToken], 0, 0, 0))[:tokenLen], true
		}
	}
	return "", false
}

// withoutPurr are the parameters of a Request-URI as its client gave them,
// before it added its PURR.
func withoutPurr(params sip.HeaderParams) sip.HeaderParams {
	mine := func(kv sip.HeaderKV) bool { return strings.EqualFold(kv.K, "pn-purr") }
	if !slices.ContainsFunc(params, mine) {
		return params
	}
	return slices.DeleteFunc(slices.Clone(params), mine)
}

// purred is the device whose PURR a request carries, in its Request-URI or in a
// Route (RFC 8599 §6.2.3).
func (p *Proxy) purred(req *sip.Request) (location.DeviceID, bool) {
	for i := range req.Recipient.UriParams {
		if kv := &req.Recipient.UriParams[i]; strings.EqualFold(kv.K, "pn-purr") {
			return p.ofPurr(kv.V)
		}
	}
	for _, h := range sipmsg.All(req, "Route") {
		if !mentionsPush(h.Value()) {
			continue
		}
		if na, err := sipmsg.ParseNameAddr(h.Value()); err == nil {
			if v, ok := na.URI.Params.Get("pn-purr"); ok {
				return p.ofPurr(v)
			}
		}
	}
	return location.DeviceID{}, false
}

// wokenBy says whether a request carries the PURR of the device that it is for.
func (p *Proxy) wokenBy(req *sip.Request, id location.DeviceID) bool {
	of, ok := p.purred(req)
	return ok && of == id
}

// replaced finds the device that an INVITE with Replaces is sent to by its
// contact in the dialog that it replaces (RFC 8599 §7).
func (p *Proxy) replaced(from *peer, req *sip.Request) (location.Device, bool) {
	id, ok := p.purred(req)
	if !ok || sipmsg.Find(req, "Replaces") == nil || !p.speaksFor(from, domainOf(id.AOR)) && p.speaksForAny(from) {
		return location.Device{}, false
	}
	return p.loc.Device(id)
}

// summon asks the device of a request that carries its PURR to register, unless
// it is on its way. Nothing rings, so it goes by the Message channel, in the
// background, whatever tokens the device has.
func (l *leg) summon() {
	p := l.p
	if !l.wakes || !p.cfg.PushEnabled {
		return
	}
	dev, known := p.loc.Device(l.id)
	now := time.Now()
	d := wakeDevice(dev)
	if !known || p.waker.Waking(d.ID) || !p.askable(dev) || !p.summons.take(l.id, now, p.cfg.Window) {
		return
	}
	p.waker.Note(d, wake.Note{
		Event: wake.EventRegister, ID: "dialog " + headerValue(l.req, "Call-ID") + " " + headerValue(l.req, "CSeq"),
		To: l.id.AOR, Sent: now, Expires: now.Add(p.cfg.Window), Urgent: true,
	}, nil)
}

// summons knows which devices were asked to register for a request lately: those
// that come after it within the wake window join that wake.
type summons struct {
	mu    sync.Mutex
	at    map[location.DeviceID]time.Time // guarded by mu
	swept time.Time                       // when the old ones were last forgotten; guarded by mu
}

// take says whether a device is to be asked at the time now, and notes that.
func (s *summons) take(id location.DeviceID, now time.Time, every time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.at[id]; ok && now.Sub(at) < every {
		return false
	}
	if s.at == nil {
		s.at = make(map[location.DeviceID]time.Time)
	}
	if now.Sub(s.swept) >= time.Minute {
		s.swept = now
		maps.DeleteFunc(s.at, func(_ location.DeviceID, at time.Time) bool { return now.Sub(at) >= every })
	}
	s.at[id] = now
	return true
}

// came says that a device has registered: it may be asked again.
func (s *summons) came(id location.DeviceID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.at, id)
}
