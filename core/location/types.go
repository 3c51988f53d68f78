package location

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"sallyport/core/vault"
)

// DeviceID names one client instance of one AOR.
type DeviceID struct {
	// AOR is sip:user@host, host lower-cased, no port, no parameters; or, of an IM
	// client, xmpp:user@host.
	AOR string
	// Instance is +sip.instance, or what stands for it (RFC 5626 §4.1); of an IM
	// client its resource.
	Instance string
}

// String returns "AOR INSTANCE", which [ParseDeviceID] reads back. It is a map
// key, not for logs: there, a DeviceID redacts itself.
func (id DeviceID) String() string { return id.AOR + " " + id.Instance }

// ParseDeviceID reads what [DeviceID.String] wrote. It reports false for
// anything without an AOR, or without the blank behind it.
func ParseDeviceID(s string) (DeviceID, bool) {
	aor, instance, ok := strings.Cut(s, " ")
	return DeviceID{AOR: aor, Instance: instance}, ok && aor != ""
}

// Binding is what one accepted REGISTER made true (RFC 3261 §10,
// RFC 5626 §6): requests for AOR reach URI on Flow until Expires.
type Binding struct {
	AOR      string `json:"aor"`
	Instance string `json:"instance"`
	RegID    int    `json:"reg_id,omitempty"`  // RFC 5626 reg-id, 0 if the client gave none
	Contact  string `json:"contact,omitempty"` // secret, since it holds tokens: whole Contact value as the client sent it
	URI      string `json:"uri"`               // Request-URI for requests to the client, without pn-*
	CallID   string `json:"call_id"`
	CSeq     uint32 `json:"cseq"`
	// Token is the user part of the contact the PBX was given for this binding.
	Token string `json:"token"`
	// Identities are the AORs the PBX accepted on the flow besides AOR.
	Identities []string `json:"identities,omitempty"`
	// GRUUs are the header parameters with which the PBX named the client's
	// contact (RFC 5627), to be said again with each 2xx; "" for none.
	GRUUs string `json:"gruus,omitempty"`
	// Flow is the id of the live flow ("edge/boot/uuid"), "" when there is none.
	Flow string `json:"flow,omitempty"`
	// FlowLost is when the flow ended; zero while it lives or if there was
	// none. After a restart it is the time of Load, while Answering that of the
	// registration: a device that is just coming is waited for like one that
	// has just gone (B30).
	FlowLost time.Time `json:"-"`
	// Answering: the 2xx to the REGISTER has not left yet. The client may use
	// the flow ([Location.ByFlow]); for all others it is not there before
	// [Location.Answered], so that nothing goes down it ahead of the 2xx.
	Answering  bool      `json:"-"`
	Edge       string    `json:"edge,omitempty"`
	Core       string    `json:"core,omitempty"`
	Registered time.Time `json:"registered"` // when the REGISTER was accepted
	Expires    time.Time `json:"expires"`    // as granted to the client
	// Granted and GrantEnds bound what the PBX granted for our contact, which
	// is longer than what the client was told: while it is not half used, the
	// client's refreshes are answered without the PBX.
	Granted   time.Time `json:"granted"`
	GrantEnds time.Time `json:"grant_ends"`
	Transport string    `json:"transport,omitempty"`
	Public    string    `json:"public,omitempty"` // HOST:PORT at which the client reached the edge
	UserAgent string    `json:"user_agent,omitempty"`
}

// ID names the device the binding belongs to.
func (b Binding) ID() DeviceID { return DeviceID{AOR: b.AOR, Instance: b.Instance} }

// Expired reports whether the client's registration has run out. An expired
// binding has no flow; it is kept with its device because the PBX may still
// hold a contact that names it (B29).
func (b Binding) Expired(now time.Time) bool { return !now.Before(b.Expires) }

// Device is one client instance of one AOR as it stands at one moment: a copy
// that belongs to the caller.
type Device struct {
	ID       DeviceID
	Tokens   []Token
	Class    string    // "split", "single" or "": see core/push
	Bindings []Binding // newest registration first
	// Keep is until when the device is kept after its bindings expired, if it
	// has a token that is not dead.
	Keep     time.Time
	LastWake time.Time // when a push last brought it back; zero if never
}

// Flow returns the id of the newest live flow, "" if there is none.
func (d Device) Flow() string {
	for i := range d.Bindings {
		if d.Bindings[i].Flow != "" {
			return d.Bindings[i].Flow
		}
	}
	return ""
}

// FlowLost returns when the last flow ended, zero if none ever did.
func (d Device) FlowLost() time.Time {
	var last time.Time
	for i := range d.Bindings {
		if d.Bindings[i].FlowLost.After(last) {
			last = d.Bindings[i].FlowLost
		}
	}
	return last
}

// Store keeps records across restarts. Keys are 43 characters of the
// base64url alphabet. Calls for different keys may be concurrent; for one key
// they are not, and a later one must win.
type Store interface {
	Load(ctx context.Context) (map[string][]byte, error)
	// Put returns when value will survive the death of this process.
	Put(key string, value []byte) error
	// Delete of a key that is not there is no error.
	Delete(key string) error
}

// Config says how long and how much is kept. Zero fields take the defaults.
type Config struct {
	// DeviceKeep is how long after its last registration a device with a
	// usable token is kept (device_keep). Default 30 days.
	DeviceKeep time.Duration
	// Core is the name of this core, written into bindings that name none.
	Core string
	// MaxDevices per AOR. One more evicts the one that registered longest ago
	// among those without a flow. Default 64.
	MaxDevices int
	// MaxBindings per device. One more evicts the oldest. Default 8.
	MaxBindings int
	// Vault seals tokens and contacts in the store; nil writes them in clear, which
	// is for stores that end with the process.
	Vault *vault.Vault
}

const (
	defaultKeep        = 30 * 24 * time.Hour
	defaultMaxDevices  = 64
	defaultMaxBindings = 8

	// maxTokens leaves room for two apps on one instance, each with two tokens.
	maxTokens = 4
	// maxIdentities bounds the P-Associated-URI list kept of one registration.
	maxIdentities = 32
	// maxRecord bounds the text of one binding with its tokens: four times
	// what the longest contacts seen need.
	maxRecord = 16 << 10
)

// Errors of [Location.Bind] that a caller may want to tell apart.
var (
	// ErrTooMany: the AOR has MaxDevices devices and each has a live flow.
	ErrTooMany = errors.New("too many devices registered")
	// ErrTooBig: contact, tokens and identities exceed 16 KiB together.
	ErrTooBig = errors.New("registration too big to keep")
	// ErrNotStored: the binding holds, but would not survive a restart yet; Run
	// goes on trying to store it.
	ErrNotStored = errors.New("binding not stored")
)

func (c Config) withDefaults() Config {
	if c.DeviceKeep <= 0 {
		c.DeviceKeep = defaultKeep
	}
	if c.MaxDevices <= 0 {
		c.MaxDevices = defaultMaxDevices
	}
	if c.MaxBindings <= 0 {
		c.MaxBindings = defaultMaxBindings
	}
	return c
}

// check refuses what cannot be kept, naming the culprit.
func check(b Binding, tokens []Token) error {
	switch {
	case b.AOR == "" || strings.ContainsAny(b.AOR, " \r\n"):
		return errors.New("bind: aor is empty or has a blank")
	case b.Expires.IsZero():
		return errors.New("bind: expires is not set")
	case len(tokens) > maxTokens:
		return errors.New("bind: more than 4 push tokens")
	case len(b.Identities) > maxIdentities:
		return errors.New("bind: more than 32 identities")
	}
	size := len(b.AOR) + len(b.Instance) + len(b.Contact) + len(b.URI) + len(b.CallID) + len(b.Token) +
		len(b.GRUUs) + len(b.Flow) + len(b.Edge) + len(b.Core) + len(b.Transport) + len(b.Public) + len(b.UserAgent)
	for _, s := range b.Identities {
		size += len(s)
	}
	for i := range tokens {
		t := &tokens[i]
		size += len(t.Provider) + len(t.Kind) + len(t.App) + len(t.Param) + len(t.Value) + len(t.Key) + len(t.Auth)
	}
	if size > maxRecord {
		return ErrTooBig
	}
	return nil
}

// newestFirst orders bindings by registration, reg-id breaking ties.
func newestFirst(a, b *binding) int {
	if c := b.Registered.Compare(a.Registered); c != 0 {
		return c
	}
	return a.RegID - b.RegID
}

func sortBindings(bs []*binding) { slices.SortStableFunc(bs, newestFirst) }
