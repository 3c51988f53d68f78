package phone

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ErrNoContact is a 2xx to REGISTER that lacks the phone's own contact; JsSIP
// ignores such an answer and never becomes registered.
var ErrNoContact = errors.New("phone: 2xx to REGISTER without our contact")

// Push is what a phone registers for being woken: URI parameters of its contact.
type Push struct{ params string }

// RFC8599 is one token as RFC 8599 §4.1 writes it.
func RFC8599(provider, app, token string) Push {
	return Push{fmt.Sprintf(";pn-provider=%s;pn-param=%s;pn-prid=%s", provider, app, token)}
}

// Linphone is the dialect of Linphone's iOS apps: two tokens in one pn-prid, one for
// each channel. app is TEAM.bundle.id; sandbox tokens come from development builds.
func Linphone(app, voip, remote string, sandbox bool) Push {
	provider := "apns"
	if sandbox {
		provider = "apns.dev"
	}
	return Push{fmt.Sprintf(";pn-provider=%s;pn-param=%s.voip&remote;pn-prid=%s:voip&%s:remote", provider, app, voip, remote)}
}

// WebPush is the subscription of a browser, or of an app by UnifiedPush (RFC 8599
// §9.3): an endpoint, and the key and the secret for what it is sent, "" for
// none.
func WebPush(endpoint, key, auth string) Push {
	p := Push{";pn-provider=webpush;pn-prid=" + strings.NewReplacer(
		"%", "%25", ";", "%3B", "?", "%3F", ":", "%3A", "@", "%40", "=", "%3D", "&", "%26").Replace(endpoint)}
	if key != "" {
		p.params += ";pn-key=" + key + ";pn-auth=" + auth
	}
	return p
}

// Escaped is the same with & and : as %26 and %3A, as some clients send them.
func (p Push) Escaped() Push {
	return Push{strings.NewReplacer("&", "%26", ":", "%3A").Replace(p.params)}
}

// Raw is Push from URI parameters as they stand, each with its semicolon.
func Raw(params string) Push { return Push{params} }

// Registration is what a REGISTER says.
type Registration struct {
	// Expires is asked for; zero means 10 min, below zero a removal.
	Expires time.Duration
	Push    Push
	// RegID, when not zero, asks for outbound (RFC 5626 §4.2).
	RegID int
	// ClientState, "active" or "inactive", is sent as the Client-State header.
	ClientState string
	// Contact replaces the whole Contact value.
	Contact string
	Headers []Header
	// Anonymous leaves a challenge unanswered.
	Anonymous bool
}

// Register registers and returns the final response, with an error unless it
// is a 2xx that holds the phone's contact. Call-ID stays and CSeq rises over the
// phone's life (RFC 3261 §10.2).
func (p *Phone) Register(ctx context.Context, r Registration) (*Message, error) {
	l, err := p.current()
	if err != nil {
		return nil, err
	}
	contact := r.Contact
	defaultTo(&contact, p.contact(l, r))
	expires := 600
	if r.Expires != 0 {
		expires = max(0, int(r.Expires/time.Second))
	}
	req := p.Request("REGISTER", "sip:"+p.domain)
	req.Set("To", "<"+p.cfg.AOR+">")
	req.Add("Contact", contact)
	req.Add("Expires", strconv.Itoa(expires))
	req.Add("Supported", "path, gruu, outbound")
	if r.ClientState != "" {
		req.Add("Client-State", r.ClientState)
	}
	req.Headers = append(req.Headers, r.Headers...)
	p.mu.Lock()
	p.regCSeq++
	req.Set("Call-ID", p.regCallID)
	req.Set("CSeq", fmt.Sprintf("%d REGISTER", p.regCSeq))
	p.mu.Unlock()
	resp, err := p.exchangeRegister(ctx, req, r.Anonymous)
	if err != nil || expires == 0 {
		return resp, err
	}
	return resp, p.registered(resp, contact)
}

func (p *Phone) exchangeRegister(ctx context.Context, req *Message, anonymous bool) (resp *Message, err error) {
	if anonymous {
		if resp, err = p.once(ctx, req); err == nil && resp.Status >= 300 {
			err = &StatusError{resp}
		}
	} else {
		resp, err = p.Do(ctx, req)
	}
	n, _ := req.CSeq()
	p.mu.Lock()
	p.regCSeq = max(p.regCSeq, n)
	p.mu.Unlock()
	return resp, err
}

// contact is the Contact value of a REGISTER.
func (p *Phone) contact(l *line, r Registration) string {
	c := fmt.Sprintf(`<%s%s>;+sip.instance="<%s>"`, p.contactURI(l), r.Push.params, p.cfg.Instance)
	if r.RegID > 0 {
		c += fmt.Sprintf(";reg-id=%d", r.RegID)
	}
	return c
}

func (p *Phone) contactURI(l *line) string {
	return fmt.Sprintf("sip:%s@%s;transport=%s", p.cfg.ContactUser, l.host, p.cfg.Transport.param())
}

// registered checks what a 2xx says of our contact, and remembers it.
func (p *Phone) registered(resp *Message, contact string) error {
	contacts := resp.Values("Contact")
	ours := -1
	for i, c := range contacts {
		uri, params := address(c)
		instance, _ := param(params, "+sip.instance")
		if instance == "<"+p.cfg.Instance+">" || userOf(uri) == p.cfg.ContactUser {
			ours = i
			break
		}
	}
	if ours < 0 {
		return fmt.Errorf("%w: got %q", ErrNoContact, contacts)
	}
	sent, _ := address(contact)
	if got, _ := address(contacts[ours]); ours > 0 || got != sent {
		p.complain("2xx to REGISTER: our contact %q is number %d and reads %q", sent, ours+1, got)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.regContact = contact
	p.services = resp.Values("Service-Route")
	return nil
}

// Granted returns the time a 2xx to REGISTER grants this phone's contact.
func (p *Phone) Granted(resp *Message) time.Duration {
	for _, c := range resp.Values("Contact") {
		uri, params := address(c)
		if userOf(uri) != p.cfg.ContactUser {
			continue
		}
		if s, ok := param(params, "expires"); ok {
			n, _ := strconv.Atoi(s)
			return time.Duration(n) * time.Second
		}
	}
	n, _ := strconv.Atoi(resp.Get("Expires"))
	return time.Duration(n) * time.Second
}

// Unregister removes the phone's binding.
func (p *Phone) Unregister(ctx context.Context) error {
	p.mu.Lock()
	contact := p.regContact
	p.mu.Unlock()
	_, err := p.Register(ctx, Registration{Expires: -1, Contact: contact})
	return err
}

// Inactive tells the server that the app went to the background, its
// connection still open (Client-State, after XEP-0352).
func (p *Phone) Inactive(ctx context.Context) error { return p.clientState(ctx, "inactive") }

// Active tells the server that the app is on the screen again.
func (p *Phone) Active(ctx context.Context) error { return p.clientState(ctx, "active") }

func (p *Phone) clientState(ctx context.Context, state string) error {
	_, err := p.Options(ctx, "sip:"+p.domain, Header{"Client-State", state})
	if Status(err) != 0 {
		return nil // whatever OPTIONS was answered, the header has arrived
	}
	return err
}

// userOf is the user part of a URI, unescaped.
func userOf(uri string) string {
	_, rest, ok := strings.Cut(uri, ":")
	user, _, at := strings.Cut(rest, "@")
	if !ok || !at {
		return ""
	}
	if plain, err := url.PathUnescape(user); err == nil {
		return plain
	}
	return user
}
