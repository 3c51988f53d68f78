package frame

import (
	"fmt"
	"net/netip"
	"time"
)

// Info is what OPEN says of a client connection. It is a claim of the edge:
// fit for logs, limits and the choice of a Contact, never for trust in a user.
type Info struct {
	UUID      [16]byte       // the same when the flow is opened again
	Service   string         // "sip" or "xmpp"
	Transport string         // "tls" or "wss"
	Remote    netip.AddrPort // the client's address, without zone
	Public    string         // HOST:PORT at which clients reach the listener this one used

	SNI         string // of the TLS handshake
	Host        string // of the WebSocket request, and so Path to Subprotocol
	Path        string
	Origin      string
	Subprotocol string
	TLSVersion  uint16 // as crypto/tls numbers them

	FlowTimer time.Duration // the client's keep-alives may pause so long (RFC 5626 §4.4.1); whole seconds, 0 unknown

	Since    time.Time // when the client connected, to the millisecond
	Reopened bool      // the flow lived before this session
	Silent   bool      // its client's keep-alives are not heard at present
	Narrow   bool      // it has a quarter of the windows; set by the tunnel, whatever Open is told
}

const (
	tagUUID        = 1
	tagSvc         = 2
	tagTransport   = 3
	tagRemote      = 4
	tagPublic      = 5
	tagSNI         = 6
	tagHost        = 7
	tagPath        = 8
	tagOrigin      = 9
	tagSubprotocol = 10
	tagTLSVersion  = 11
	tagSince       = 12
	tagFlags       = 13
	tagFlowTimer   = 14

	flagReopened = 1
	flagSilent   = 2
	flagNarrow   = 4

	// maxSince is the end of the year 9999, beyond which time.Time has no
	// JSON form.
	maxSince = 253402300799999
)

// text names the string a tag stands for, nil for other tags, and its limit.
func (i *Info) text(tag byte) (field *string, name string, limit int) {
	switch tag {
	case tagSvc:
		return &i.Service, "service", maxService
	case tagTransport:
		return &i.Transport, "transport", 16
	case tagPublic:
		return &i.Public, "public address", 300
	case tagSNI:
		return &i.SNI, "SNI", 255
	case tagHost:
		return &i.Host, "Host", 300
	case tagPath:
		return &i.Path, "path", 1024
	case tagOrigin:
		return &i.Origin, "Origin", 512
	case tagSubprotocol:
		return &i.Subprotocol, "subprotocol", 64
	}
	return nil, "", 0
}

// Check returns an error that names the first field beyond its limit. An Info
// that passes fits into one OPEN.
func (i *Info) Check() error {
	if i.Service == "" {
		return fmt.Errorf("%w: no service", ErrSyntax)
	}
	for tag := byte(tagSvc); tag <= tagSubprotocol; tag++ {
		if field, name, limit := i.text(tag); field != nil {
			if err := checkText(name, *field, limit); err != nil {
				return err
			}
		}
	}
	return nil
}

// AppendOpen appends the OPEN of a flow, for an Info that passes Check.
func AppendOpen(b []byte, flow uint32, i *Info) []byte {
	at := len(b)
	b = AppendHeader(b, TypeOpen, flow, 0)
	b = appendField(b, tagUUID, i.UUID[:])
	for tag := byte(tagSvc); tag <= tagSubprotocol; tag++ {
		if field, _, _ := i.text(tag); field != nil {
			b = appendString(b, tag, *field)
		}
	}
	if i.Remote.IsValid() {
		raw, size := i.Remote.Addr().As16(), 16
		from := 0
		if i.Remote.Addr().Is4() {
			from, size = 12, 4
		}
		b = append(b, tagRemote, 0, byte(size+2))
		b = append(b, raw[from:]...)
		b = append(b, byte(i.Remote.Port()>>8), byte(i.Remote.Port()))
	}
	b = appendUint(b, tagTLSVersion, 2, uint64(i.TLSVersion))
	if !i.Since.IsZero() {
		b = appendUint(b, tagSince, 8, uint64(i.Since.UnixMilli()))
	}
	if s := i.FlowTimer / time.Second; s > 0 {
		b = appendUint(b, tagFlowTimer, 2, uint64(min(s, 1<<16-1)))
	}
	var flags uint64
	if i.Reopened {
		flags |= flagReopened
	}
	if i.Silent {
		flags |= flagSilent
	}
	if i.Narrow {
		flags |= flagNarrow
	}
	if flags != 0 {
		b = appendUint(b, tagFlags, 1, flags)
	}
	n := len(b) - at - HeaderLen
	b[at], b[at+1], b[at+2] = byte(n>>16), byte(n>>8), byte(n)
	return b
}

// ParseOpen reads the payload of an OPEN. Strings are made by share, so that
// flows that say the same keep one copy of it; nil makes each anew.
func ParseOpen(p []byte, share func([]byte) string) (*Info, error) {
	if share == nil {
		share = func(b []byte) string { return string(b) }
	}
	i := new(Info)
	f := fields{rest: p}
	for {
		tag, value, ok, err := f.next()
		if err == nil && ok {
			err = f.once(tag)
		}
		if err == nil && ok {
			err = i.set(tag, value, share)
		}
		if err != nil {
			return nil, fmt.Errorf("OPEN: %w", err)
		}
		if !ok {
			break
		}
	}
	if f.seen&(1<<tagUUID) == 0 || i.Service == "" {
		return nil, fmt.Errorf("OPEN: %w: no uuid or service", ErrSyntax)
	}
	return i, nil
}

func (i *Info) set(tag byte, value []byte, share func([]byte) string) error {
	if field, name, limit := i.text(tag); field != nil {
		if err := checkText(name, value, limit); err != nil {
			return err
		}
		*field = share(value)
		return nil
	}
	var err error
	var v uint64
	switch tag {
	case tagUUID:
		if len(value) != len(i.UUID) {
			return fmt.Errorf("%w: uuid has %d bytes, want 16", ErrSyntax, len(value))
		}
		copy(i.UUID[:], value)
	case tagRemote:
		i.Remote, err = parseRemote(value)
	case tagTLSVersion:
		v, err = parseUint("TLS version", value, 2)
		i.TLSVersion = uint16(v)
	case tagSince:
		v, err = parseUint("since", value, 8)
		i.Since = time.UnixMilli(int64(min(v, maxSince)))
	case tagFlowTimer:
		v, err = parseUint("flow timer", value, 2)
		i.FlowTimer = time.Duration(v) * time.Second
	case tagFlags:
		v, err = parseUint("flags", value, 1)
		i.Reopened, i.Silent, i.Narrow = v&flagReopened != 0, v&flagSilent != 0, v&flagNarrow != 0
	}
	return err
}

func parseRemote(value []byte) (netip.AddrPort, error) {
	if len(value) != 4+2 && len(value) != 16+2 {
		return netip.AddrPort{}, fmt.Errorf("%w: client address has %d bytes, want 6 or 18", ErrSyntax, len(value))
	}
	n := len(value) - 2
	addr, _ := netip.AddrFromSlice(value[:n])
	return netip.AddrPortFrom(addr, uint16(value[n])<<8|uint16(value[n+1])), nil
}
