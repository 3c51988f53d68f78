package admin

import "time"

// Status is GET /api/v1/status.
type Status struct {
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Uptime   int64     `json:"uptime"` // seconds
	Ready    bool      `json:"ready"`
	Tunnels  []Tunnel  `json:"tunnels"`
	Domains  []Domain  `json:"domains"`
	Push     Push      `json:"push"`
	Store    Store     `json:"store"`
	Warnings []string  `json:"warnings"` // each with its remedy
}

// Tunnel is the state of the tunnel to one edge.
type Tunnel struct {
	Edge      string     `json:"edge"` // as the config has it
	Up        bool       `json:"up"`
	Since     *time.Time `json:"since"` // of the present state; null before the first
	Flows     int        `json:"flows"`
	LastError string     `json:"last_error"`
	Notices   []string   `json:"notices"` // what the edge says its operator should know
}

// Domain is one SIP domain and whether its PBX can be reached.
type Domain struct {
	Name      string `json:"name"`
	Upstream  string `json:"upstream"` // "" for a stand-alone domain
	OK        bool   `json:"ok"`
	LastError string `json:"last_error"`
	// Servers are those of the PBX, in the order in which they are tried.
	Servers []Server `json:"servers,omitempty"`
}

// Server is one server of a PBX.
type Server struct {
	Server    string     `json:"server"` // "tcp:10.0.0.9:5060"
	OK        bool       `json:"ok"`
	Since     *time.Time `json:"since"` // of being reachable or not; null before the first attempt ended
	LastError string     `json:"last_error"`
}

// Push is what can be pushed to.
type Push struct {
	Enabled bool  `json:"enabled"`
	Apps    []App `json:"apps"`
}

// App is one app at one push provider.
type App struct {
	ID        string `json:"id"`
	Provider  string `json:"provider"`
	OK        bool   `json:"ok"`
	LastError string `json:"last_error"`
}

// Store is where bindings and devices are kept.
type Store struct {
	Kind      string `json:"kind"` // "embedded" or "cluster"
	OK        bool   `json:"ok"`
	LastError string `json:"last_error"`
}

// Client is one device; GET /api/v1/clients is a list of them.
type Client struct {
	AOR      string     `json:"aor"`
	Instance string     `json:"instance"`
	State    string     `json:"state"` // "foreground", "silent", "suspended", "waking" or "gone"
	Flow     *Flow      `json:"flow"`  // null without a live one
	Tokens   []Token    `json:"tokens"`
	Expires  *time.Time `json:"expires"`   // of the SIP registration; null without one
	LastWake *time.Time `json:"last_wake"` // null before the first
	Held     int        `json:"held"`      // messages that wait for the device
}

// Flow is a device's live connection.
type Flow struct {
	ID        string    `json:"id"`
	Edge      string    `json:"edge"`
	Transport string    `json:"transport"` // "tls" or "wss"
	Remote    string    `json:"remote"`
	Since     time.Time `json:"since"`
}

// The states of a token.
const (
	TokenLive        = "live"        // can be pushed to
	TokenQuarantined = "quarantined" // an answer spoke against it: pushed to seldom until one is accepted
	TokenDeaf        = "deaf"        // calls pushed to it wake nobody, while messages do
	TokenDead        = "dead"        // the provider said that it is gone
	TokenNoFit       = "no app"      // no configured app fits it
)

// Token is a push token of a device, without its value.
type Token struct {
	Kind       string     `json:"kind"` // "voip" or "alert"
	Provider   string     `json:"provider"`
	App        string     `json:"app"`
	State      string     `json:"state"` // one of the constants above
	Token      string     `json:"token"` // its last six characters
	Encrypts   bool       `json:"encrypts"`
	Registered *time.Time `json:"registered"`
	LastOK     *time.Time `json:"last_ok"`    // last accepted push; null before the first
	LastError  string     `json:"last_error"` // the provider's last reason not to deliver
	ErrorAt    *time.Time `json:"last_error_at"`
	WakeOK     uint32     `json:"wake_ok"`   // calls: pushes accepted while the device slept after which it registered in 15 s…
	WakeMiss   uint32     `json:"wake_miss"` // …and after which it did not
	NoteOK     uint32     `json:"note_ok"`   // the same on the Message channel, where people decide when to look
	NoteMiss   uint32     `json:"note_miss"`
}

// PushResult is what became of one test push; POST /api/v1/push/test answers
// {"results": [...]}.
type PushResult struct {
	Instance string `json:"instance"`
	Provider string `json:"provider"`
	App      string `json:"app"`
	Channel  string `json:"channel"`
	Outcome  string `json:"outcome"` // "accepted", "no_route", "dead_token", "provider_down" or "refused"
	Status   int    `json:"status"`  // of the provider's answer, 0 without one
	Reason   string `json:"reason"`
	ID       string `json:"id"` // the provider's, for its support
	// Meaning is Outcome and Reason in words, Remedy what to do about it.
	Meaning string `json:"meaning,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
	// Quiet says why the device would not have been pushed to now but for the
	// test; "" if it would.
	Quiet string `json:"quiet,omitempty"`
	State string `json:"state,omitempty"` // of the device before the test, as in [Client]
	Class string `json:"class,omitempty"` // "split" or "single", declared or guessed
	// CameBack says whether the device registered after the push was accepted,
	// CameBackMS after how many milliseconds; absent where that was not waited for.
	CameBack   *bool `json:"came_back,omitempty"`
	CameBackMS int64 `json:"came_back_ms,omitempty"`
	// Ways are the device's channels. Only the Message channel is ever tested: a
	// push on the VoIP channel would ring.
	Ways []PushWay `json:"ways,omitempty"`
}

// PushWay is how one channel of a device is reached.
type PushWay struct {
	Channel    string     `json:"channel"` // "voip" or "message"
	Provider   string     `json:"provider,omitempty"`
	App        string     `json:"app,omitempty"`
	Kind       string     `json:"kind,omitempty"`    // of the token
	Token      string     `json:"token,omitempty"`   // its last six characters
	Registered *time.Time `json:"registered"`        // when the client last brought it
	Problem    string     `json:"problem,omitempty"` // why nothing can be sent
	Facts      []PushFact `json:"facts,omitempty"`
}

// PushFact is something to know of a way, such as {"topic", "org.example.phone"}.
type PushFact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// PushTestRequest is the body of POST /api/v1/push/test.
type PushTestRequest struct {
	AOR  string `json:"aor"`
	Wait string `json:"wait,omitempty"` // for the devices to come back, such as "15s", at most "1m"; "" is not at all
}

// PushTestAnswer is the answer to a [PushTestRequest].
type PushTestAnswer struct {
	Results []PushResult `json:"results"`
}

// DND is somebody who is not to be disturbed; GET /api/v1/dnd is a list of
// them.
type DND struct {
	AOR   string     `json:"aor"`
	Since time.Time  `json:"since"`
	Until *time.Time `json:"until"` // null: until it is switched off
}

// DNDRequest is the body of POST /api/v1/dnd, whose answer is the list.
type DNDRequest struct {
	AOR string `json:"aor"`
	On  bool   `json:"on"`
	For string `json:"for,omitempty"` // how long, such as "2h"; "" is until it is switched off
}

// Fault is the body of every answer that is no success.
type Fault struct {
	Error string `json:"error"`
}

// At is a time for an answer: nil, JSON's null, for the zero time.
func At(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
