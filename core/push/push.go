// Package push tells a device that sleeps to come back. It owns which token
// of a device a call or a message goes to, what the payload says, which notes
// wait and until when, and how much time a push may take. The providers
// themselves stand behind [Sender]; what all senders need (breaker, health,
// proxy, trust, patience) is here too.
//
// It does not know SIP, nor who waits for the device: core/wake decides when
// to push, core/push how.
package push

import (
	"context"
	"log/slog"
	"time"
)

// Channel is one of the two ways a provider offers to a device. Calls go by
// VoIP, where the device must ring; everything else goes by Message.
type Channel string

// The channels.
const (
	VoIP    Channel = "voip"
	Message Channel = "message"
)

// Providers as `pn-provider` names them (RFC 8599 §10). A client of Apple's
// sandbox says `apns.dev`, which is ProviderAPNs with [Token.Sandbox] set.
const (
	ProviderAPNs    = "apns"
	ProviderFCM     = "fcm"
	ProviderWebPush = "webpush"
)

// Kinds of token. Apple gives an app one for each channel; the token of any
// other provider serves both channels, whatever its kind says.
const (
	KindVoIP  = "voip"
	KindAlert = "alert"
)

// Classes of device (RFC 8599 has none; the client declares it).
const (
	ClassSplit  = "split"  // two channels: iOS 13 and later, Android
	ClassSingle = "single" // one channel for both: iOS 12 and earlier
)

// Token is what a client handed over to be reached by (RFC 8599 §4).
type Token struct {
	Provider string // ProviderAPNs, ProviderFCM or ProviderWebPush
	Kind     string // KindVoIP or KindAlert; "" is taken as KindAlert
	App      string // id of the app as the client named it, without team and suffix; used when Param is empty
	Param    string // pn-param as the client sent it, unescaped
	Value    string // pn-prid of this token; secret
	// Sandbox says that the app is a development build (`apns.dev`).
	Sandbox bool
	// Dead says that the provider called the token dead. A dead token is never
	// pushed to, but it still shows that its device has this channel: a call is
	// not announced by the Message channel because the VoIP token died.
	Dead bool
	// Suspects counts the answers in a row that spoke against the token, the last
	// of them at Suspected. Above 0 the token is quarantined: pushed to seldom.
	Suspects  int
	Suspected time.Time
	// Registered is when the client last handed the token over.
	Registered time.Time
	// Key is the device's public key on P-256, uncompressed, and Auth its
	// authentication secret of 16 octets, both in base64url without padding (RFC
	// 8291 §2.1, §3.2); "" where the client gave none. Auth is secret.
	Key, Auth string
}

// Target is a device as a push sees it.
type Target struct {
	// Device names it, for queues and limits; "" is a device that is not known.
	Device string
	Tokens []Token
	Class  string // ClassSplit, ClassSingle, or "" where the client declared none
}

// LogValue shows all of a token but its value, of which the last six
// characters must do.
func (t Token) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("provider", t.Provider),
		slog.String("kind", t.Kind),
		slog.String("app", t.App),
		slog.String("token", Redact(t.Value)),
	)
}

// String is LogValue for fmt.
func (t Token) String() string {
	return t.Provider + "/" + t.Kind + "/" + t.App + "/" + Redact(t.Value)
}

// GoString keeps %#v from printing the value.
func (t Token) GoString() string { return t.String() }

// Redact returns the last six characters of a token's value behind an
// ellipsis, or the ellipsis alone when that would show more than half of it.
func Redact(value string) string {
	if len(value) < 12 {
		return "…"
	}
	return "…" + value[len(value)-6:]
}

// Call is an incoming call as the device's screen shows it. Texts may be
// hostile: they are whatever the caller sent.
type Call struct {
	CallID    string // Call-ID of the INVITE the device will get
	FromURI   string // caller's SIP URI
	FromName  string // caller's display name, may be empty
	Number    string // user part of FromURI
	To        string // AOR that is called
	Video     bool
	Sent      time.Time // when the call came in; zero means now
	RingUntil time.Time // when the wake window ends; zero means unknown
}

// Events of a [Note].
const (
	EventMissed            = "missed"
	EventAnsweredElsewhere = "answered_elsewhere"
	EventMessage           = "message"
	// EventRegister asks the app to register, in the background: nothing is
	// shown, and it never goes by the VoIP channel, where something must be.
	EventRegister = "register"
)

// Note is anything but a ringing call: a missed call, a call answered on
// another device, a message that waits, or a registration that is wanted.
type Note struct {
	Event    string // one of the constants above
	CallID   string
	FromURI  string
	FromName string
	Number   string
	To       string // AOR it is for
	Sent     time.Time
	// ID names the event at its source; with the device it makes the push
	// idempotent. "" stands for Event, CallID and Sent.
	ID string
	// Conversation is what notes are merged by, such as the peer's URI; "" is
	// merged with nothing.
	Conversation string
	// Text is the message, shown at the levels of privacy that show it.
	Text string
	// Urgent notes (a mention) wait for no window.
	Urgent bool
	// Count is how many messages the note stands for; 0 is 1.
	Count int
	// Badge is how many messages wait for the user in all, where that is known; 0
	// leaves the badge as it is.
	Badge int
	// Expires is when the note is worth nothing any more; the zero time stands for
	// [Config.Keep] after Sent.
	Expires time.Time
}

// Outcome is how a push ended. It is final: nothing is retried behind it.
type Outcome string

// The outcomes.
const (
	// Accepted: the provider took the push. Whether the device woke is known
	// only when it registers.
	Accepted Outcome = "accepted"
	// NoRoute: there is no token for the channel, no app fits it, or push is
	// switched off. Nothing was sent.
	NoRoute Outcome = "no_route"
	// DeadToken: the provider says that the token is no longer valid. Forget it
	// if it was registered before Result.DeadSince.
	DeadToken Outcome = "dead_token"
	// ProviderDown: the provider, the way to it or our credentials at it are
	// out of order; any other push of the same app would end alike.
	ProviderDown Outcome = "provider_down"
	// Refused: the provider refused this one push, or it was not worth sending.
	// The token is kept: a wrong configuration looks the same.
	Refused Outcome = "refused"
	// Quiet: quiet hours or do-not-disturb keep the push back, and nothing was
	// sent. A call does not ring, and word of it is a note like any other; a note
	// waits, and Result.Retry says when to ask again, unless do-not-disturb is
	// switched before.
	Quiet Outcome = "quiet"
)

// Result is what became of one push.
type Result struct {
	Outcome  Outcome
	Provider string  // "" when there was no route
	App      string  // id of the app that it went to, "" when there was no route
	Channel  Channel // the channel it went by
	Token    Token   // the token it went to
	Reason   string  // provider's word or ours, for log, trace and status; "" when accepted
	Status   int     // HTTP status of the provider, 0 when there was no answer
	ID       string  // id of the push at the provider
	// Retry is how long to wait at least before the same push may be sent again;
	// 0 is never. Calls are not sent again.
	Retry time.Duration
	// Suspect: the answer speaks against the token, but a wrong configuration
	// looks the same. Such a token is kept, and pushed to seldom.
	Suspect bool
	// DeadSince is when the provider last saw the token dead, at a resolution of
	// one second; zero when it did not say.
	DeadSince time.Time
}

// Notification is one push, ready for a provider.
type Notification struct {
	ID      string // lower-case UUID, the same for each attempt
	Token   Token
	Channel Channel
	App     string // id of the app that fits the token: bundle id or package
	Payload []byte // JSON; owned by the notification, not changed by senders
	// Expiration is until when the provider may keep trying; the zero time means
	// one attempt and no storing.
	Expiration time.Time
	CollapseID string // at most 64 bytes; "" collapses nothing
	// Data is the payload for providers that take strings by key, in place of
	// Payload: the same keys but `aps`. Not changed by senders.
	Data map[string]string
	// Conversation groups pushes on the screen, at most 43 characters of
	// base64url; "" for none.
	Conversation string
	// Passive pushes do not light the screen.
	Passive  bool
	Priority int // 10 at once, 5 when convenient
	// Background pushes show nothing (apns-push-type background).
	Background bool
	// Urgent pushes are calls: they have a connection of their own, never wait
	// behind others, and have an outcome within [CallTimeout] of their turn.
	Urgent bool
	// Until is when an urgent push is no longer worth sending. Where more come
	// at once than the provider takes, one whose turn has not come by then ends
	// with ProviderDown, and so does one whose predecessors are not answered for
	// [CallTimeout]. The zero time stands for CallTimeout from now.
	Until time.Time
}

// CallTimeout bounds a call's push from its turn to its outcome. The caller
// hears nothing meanwhile, and the wake window is already running.
const CallTimeout = 2500 * time.Millisecond

// Sender is one app at one provider. Send blocks until the outcome is final or
// ctx ends (then ProviderDown), which is CallTimeout after Until; it retries what is worth retrying by itself. It
// is safe for concurrent use and fills Outcome, Reason, Status and DeadSince;
// the rest of the Result is the caller's.
type Sender interface {
	Send(ctx context.Context, n Notification) Result
}
