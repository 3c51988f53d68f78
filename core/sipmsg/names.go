package sipmsg

import "strings"

// family is a set of traits of a header field.
type family uint8

const (
	single  family = 1 << iota // may appear once only
	list                       // comma-separated values, each gets a header
	decides                    // a second one makes framing ambiguous
)

// field is what is known of a header field name.
type field struct {
	name  string // canonical spelling
	is    family
	build func(*builder, string) // nil: kept as text
	bit   uint32                 // of its own, for a single one
}

// fields lists the header fields by canonical name. Single-instance fields
// are those on whose value this hop and the next must agree.
var fields = indexFields([]field{
	{name: "Via", is: list, build: (*builder).via},
	{name: "Route", is: list, build: (*builder).route},
	{name: "Record-Route", is: list, build: (*builder).recordRoute},
	{name: "Contact", is: list, build: (*builder).contact},
	{name: "Path", is: list},
	{name: "Service-Route", is: list},
	{name: "From", is: single, build: (*builder).from},
	{name: "To", is: single, build: (*builder).to},
	{name: "Call-ID", is: single, build: (*builder).callID},
	{name: "CSeq", is: single, build: (*builder).cseq},
	{name: "Max-Forwards", is: single, build: (*builder).maxForwards},
	{name: "Content-Length", is: single | decides, build: (*builder).contentLength},
	{name: "Content-Type", is: single},
	{name: "Expires", is: single, build: (*builder).expires},
	{name: "Accept"}, {name: "Accept-Contact"}, {name: "Accept-Encoding"}, {name: "Accept-Language"},
	{name: "Alert-Info"}, {name: "Allow"}, {name: "Allow-Events"}, {name: "Authentication-Info"},
	{name: "Authorization"}, {name: "Call-Info"}, {name: "Client-State"}, {name: "Content-Disposition"},
	{name: "Content-Encoding"}, {name: "Content-Language"}, {name: "Date"}, {name: "Error-Info"},
	{name: "Event"}, {name: "Feature-Caps"}, {name: "Flow-Timer"}, {name: "Identity"},
	{name: "Identity-Info"}, {name: "In-Reply-To"}, {name: "Join"}, {name: "MIME-Version"},
	{name: "Min-Expires"}, {name: "Min-SE"}, {name: "Organization"}, {name: "P-Asserted-Identity"},
	{name: "P-Associated-URI"}, {name: "P-Preferred-Identity"}, {name: "Priority"}, {name: "Privacy"},
	{name: "Proxy-Authenticate"}, {name: "Proxy-Authorization"}, {name: "Proxy-Require"}, {name: "RAck"},
	{name: "RSeq"}, {name: "Reason"}, {name: "Refer-To"}, {name: "Referred-By"}, {name: "Reject-Contact"},
	{name: "Remote-Party-ID"}, {name: "Replaces"}, {name: "Reply-To"}, {name: "Request-Disposition"},
	{name: "Require"}, {name: "Retry-After"}, {name: "SIP-ETag"}, {name: "SIP-If-Match"}, {name: "Server"},
	{name: "Session-Expires"}, {name: "Subject"}, {name: "Subscription-State"}, {name: "Supported"},
	{name: "Timestamp"}, {name: "Unsupported"}, {name: "User-Agent"}, {name: "WWW-Authenticate"},
	{name: "Warning"},
})

// compact maps the one-letter names (IANA "SIP Parameters", Header Fields).
var compact = map[byte]string{
	'a': "Accept-Contact", 'b': "Referred-By", 'c': "Content-Type", 'd': "Request-Disposition",
	'e': "Content-Encoding", 'f': "From", 'i': "Call-ID", 'j': "Reject-Contact", 'k': "Supported",
	'l': "Content-Length", 'm': "Contact", 'n': "Identity-Info", 'o': "Event", 'r': "Refer-To",
	's': "Subject", 't': "To", 'u': "Allow-Events", 'v': "Via", 'x': "Session-Expires", 'y': "Identity",
}

// indexFields keys each field by its canonical and its lower-case name.
func indexFields(list []field) map[string]*field {
	m := make(map[string]*field, 2*len(list))
	bit := uint32(1)
	for i := range list {
		f := &list[i]
		if f.is&single != 0 {
			f.bit, bit = bit, bit<<1
		}
		m[f.name] = f
		m[strings.ToLower(f.name)] = f
	}
	return m
}

// lookup finds what is known of name in any case or in its compact form.
func lookup(name string) (*field, bool) {
	if f, ok := fields[name]; ok {
		return f, true
	}
	if len(name) == 1 {
		f, ok := fields[compact[name[0]|0x20]]
		return f, ok
	}
	f, ok := fields[strings.ToLower(name)]
	return f, ok
}

// Canonical gives a header field's usual spelling: "k" and "SUPPORTED" are
// "Supported". Names not known stay as they are.
func Canonical(name string) string {
	if f, ok := lookup(name); ok {
		return f.name
	}
	return name
}
