package sipproxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
	"sallyport/core/sipmsg"
)

// tokenLen is the length of our tokens: 130 bits of an HMAC.
const tokenLen = 26

var tokenText = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)

// token derives the name of an instance's binding towards the PBX. It is the
// same each time the instance registers, so that the PBX replaces the contact
// and never forks twice to one phone (decision 11), and it tells nobody whose
// it is.
func (p *Proxy) token(aor, instance string, regID int) string {
	return p.tokenOf(0, aor, instance, regID)
}

func (p *Proxy) tokenOf(key int, aor, instance string, regID int) string {
	mac := hmac.New(sha256.New, p.cfg.TokenKeys[key])
	for _, s := range []string{aor, instance, strconv.Itoa(regID)} {
		mac.Write([]byte(s))
		mac.Write([]byte{0})
	}
	return tokenText.EncodeToString(mac.Sum(nil))[:tokenLen]
}

// tokenFor is the token of a binding. One that is bound keeps its token while
// the key it was made with is valid, so that the PBX, where the old contact
// lives on for hours, does not fork twice after a change of keys. stale is a
// token that has to be taken back there.
func (p *Proxy) tokenFor(id location.DeviceID, regID int) (token, stale string) {
	token = p.token(id.AOR, id.Instance, regID)
	dev, _ := p.loc.Device(id)
	for _, b := range dev.Bindings {
		if b.RegID != regID || b.Token == token || b.Token == "" {
			continue
		}
		for key := range p.cfg.TokenKeys {
			if b.Token == p.tokenOf(key, id.AOR, id.Instance, regID) {
				return b.Token, ""
			}
		}
		return token, b.Token
	}
	return token, ""
}

// contactURI is what the PBX calls for a binding.
func (p *Proxy) contactURI(token, transport string) string {
	uri := "sip:" + token + "@" + p.addressFor(transport)
	if t := strings.ToLower(transport); t != "udp" {
		uri += ";transport=" + t
	}
	return uri
}

// addressFor is where a PBX reaches us over a transport.
func (p *Proxy) addressFor(transport string) string {
	if strings.EqualFold(transport, "tls") && p.cfg.AdvertiseTLS != "" {
		return p.cfg.AdvertiseTLS
	}
	return p.cfg.Advertise
}

// recordRoutes are the two values that keep us in a dialog, each in a header
// of its own (RFC 5658): the first is nearest the next hop. Towards the PBX
// it is our address, towards a client the edge it is connected to.
func (p *Proxy) recordRoutes(next, prev hopName) []sip.Header {
	return []sip.Header{
		sip.NewHeader("Record-Route", "<"+next.uri+";lr>"),
		sip.NewHeader("Record-Route", "<"+prev.uri+";lr>"),
	}
}

// hopName is how one side of a dialog names us.
type hopName struct{ uri string }

func (p *Proxy) towardsPBX(token, transport string) hopName {
	return hopName{"sip:" + token + "@" + p.addressFor(transport) + ";transport=" + strings.ToLower(transport)}
}

func towardsClient(token string, pe *peer) hopName {
	_, uri := pe.flow.Secure()
	return hopName{"sip:" + token + "@" + pe.flow.Info().Public + ";transport=" + uri}
}

// route is what the Route headers of a request say about us.
type route struct {
	own  []ownValue   // values that name an instance, in order
	bad  bool         // a value names our host with a token that is not ours
	rest []sip.Header // what follows our own values
}

// ownValue is a Route value of ours.
type ownValue struct {
	id location.DeviceID
	sealed
	here []sip.Header // this value and all that follow
}

// ids are the instances that are named.
func (r route) ids() (ids []location.DeviceID) {
	for _, v := range r.own {
		ids = append(ids, v.id)
	}
	return ids
}

// ownRoutes takes our own values off the top of the Route set (RFC 3261
// §16.4). One without a user part is an outbound proxy setting, and says nothing.
func (p *Proxy) ownRoutes(from *peer, req *sip.Request) route {
	var r route
	hs := sipmsg.All(req, "Route")
	for i, h := range hs {
		addr, ok := routeURI(h)
		if !ok {
			r.rest = hs[i:]
			return r
		}
		if s, ok := unseal(addr.User); ok {
			if id, known := p.loc.Owner(s.token); known {
				r.own = append(r.own, ownValue{id: id, sealed: s, here: hs[i:]})
				continue
			}
		}
		if !p.isOurs(from, &addr) {
			r.rest = hs[i:]
			return r
		}
		r.bad = r.bad || addr.User != ""
	}
	return r
}

// routeURI reads a Route value, typed or kept as text, as far as it matters
// here.
func routeURI(h sip.Header) (sip.Uri, bool) {
	if rh, ok := h.(*sip.RouteHeader); ok {
		return rh.Address, true
	}
	na, err := sipmsg.ParseNameAddr(h.Value())
	if err != nil {
		return sip.Uri{}, false
	}
	return sip.Uri{User: na.URI.User, Host: na.URI.Host, Port: na.URI.Port}, true
}

// isOurs says whether a URI's host and port are an address of ours, as the
// sender knows it.
func (p *Proxy) isOurs(from *peer, u *sip.Uri) bool {
	if strings.EqualFold(u.Host, p.advertiseHost) && (u.Port == p.advertisePort || u.Port == 0 && p.advertisePort == 5060) ||
		strings.EqualFold(u.Host, p.tlsHost) && (u.Port == p.tlsPort || u.Port == 0 && p.tlsPort == 5061) {
		return true
	}
	if !from.client() {
		return false
	}
	host, port := splitHostPort(from.flow.Info().Public, 0)
	return strings.EqualFold(u.Host, host) && (u.Port == port || u.Port == 0)
}
