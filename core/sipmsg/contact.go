package sipmsg

import (
	"math"

	"github.com/emiago/sipgo/sip"
)

// maxContacts bounds the contacts of one message.
const maxContacts = 64

// Contact is one value of a Contact header.
type Contact struct {
	// Raw is the whole value as the client wrote it.
	Raw string
	// Display is the display name, unquoted.
	Display string
	// URI is the contact address, push parameters included.
	URI URI
	// Params are the header's parameters, such as expires and reg-id.
	Params Params
	// Star is set for "*", which has no URI and no parameters.
	Star bool
}

// Contacts reads all Contact values of m in their order. A contact that cannot
// be read gives a 400 fault that names the header.
func Contacts(m sip.Message) ([]Contact, *Fault) {
	var out []Contact
	for _, h := range All(m, "Contact") {
		c, err := parseContact(h.Value())
		if err != nil {
			return nil, bad("Contact", err.Error())
		}
		if out = append(out, c); len(out) > maxContacts {
			return nil, bad("Contact", "too many contacts")
		}
	}
	return out, nil
}

func parseContact(s string) (Contact, error) {
	if trim(s) == "*" {
		return Contact{Raw: "*", Star: true}, nil
	}
	n, err := ParseNameAddr(s)
	if err != nil {
		return Contact{}, err
	}
	return Contact{Raw: n.Raw, Display: n.Display, URI: n.URI, Params: n.Params}, nil
}

// NameAddr is the contact as a name-addr, to be changed and written anew.
func (c Contact) NameAddr() NameAddr {
	return NameAddr{Raw: c.Raw, Display: c.Display, URI: c.URI, Params: c.Params}
}

// Instance is the +sip.instance URN without quotes and angle brackets
// ("urn:uuid:…", RFC 5626 §4.1); empty when there is none.
func (c Contact) Instance() string {
	v, _ := c.Params.Get("+sip.instance")
	if len(v) > 2 && v[0] == '<' && v[len(v)-1] == '>' {
		return v[1 : len(v)-1]
	}
	return v
}

// RegID is the reg-id (RFC 5626 §4.2), 1 to 2^31-1; 0 when it is absent or
// malformed.
func (c Contact) RegID() int {
	v, _ := c.Params.Get("reg-id")
	n, ok := parseUint(v, math.MaxInt32)
	if !ok {
		return 0
	}
	return int(n)
}

// defaultExpires is what a malformed expires parameter stands for, in seconds
// (RFC 3261 §20.10).
const defaultExpires = 3600

// Expires is the expires parameter in seconds and whether there is one. A
// malformed one counts as 3600.
func (c Contact) Expires() (seconds int, ok bool) {
	v, ok := c.Params.Get("expires")
	if !ok {
		return 0, false
	}
	n, valid := parseUint(v, math.MaxUint32)
	if !valid {
		return defaultExpires, true
	}
	return int(n), true
}

// WakesItself reports the media feature tag +sip.pnsreg: the client registers in
// time without being pushed (RFC 8599 §4.1.4).
func (c Contact) WakesItself() bool { return c.Params.Has("+sip.pnsreg") }

// Push reads the push parameters of the contact's URI.
func (c Contact) Push() PushParams { return ParsePush(c.URI.Params) }
