package sipmsg

import (
	"crypto/ecdh"
	"encoding/base64"
	"log/slog"
	"strings"
)

// PushToken is one device token of a push provider.
type PushToken struct {
	// Kind is "voip" or "alert", the channel the token is for. Providers
	// with one token for all have "alert".
	Kind string
	// App is the bundle id, without team and channel suffix; for other
	// providers pn-param as it is.
	App string
	// Value is the token itself: a secret.
	Value string
}

// LogValue hides the token.
func (t PushToken) LogValue() slog.Value { return slog.StringValue(t.Kind + " " + t.App) }

// PushParams is what a contact says of push, in the form of RFC 8599 or in
// Linphone's, which packs a VoIP and an alert token into one contact.
type PushParams struct {
	// Provider is "apns", "fcm", "webpush" or what the client named, in
	// lower case; empty when the contact names none.
	Provider string
	// Param is pn-param as sent, its escapes undone.
	Param string
	// Tokens are the tokens of pn-prid, VoIP first.
	Tokens []PushToken
	// Sandbox is set for "apns.dev".
	Sandbox bool
	// Class is what pn-class declares, "split" or "single". Where it declares
	// nothing, it is "split" for one token per channel, "single" for an Apple
	// device with a VoIP token alone, else empty.
	Class string
	// Key and Auth are pn-key and pn-auth: the device's public key and its
	// authentication secret for what only it shall read (RFC 8291), in base64url
	// without padding. Auth is secret.
	Key, Auth string
	// BadKey is set where pn-key or pn-auth was given and is not what it must be,
	// so that neither counts.
	BadKey bool
	// Query is set for pn-provider without pn-prid: the client asks what is
	// supported (RFC 8599 §4.1.2) and wants no push.
	Query bool
}

// LogValue hides the tokens.
func (p PushParams) LogValue() slog.Value {
	return slog.GroupValue(slog.String("provider", p.Provider), slog.String("param", p.Param),
		slog.Bool("sandbox", p.Sandbox), slog.Int("tokens", len(p.Tokens)))
}

// Bounds of what a client may store: RFC 8599 names none; an APNs token has 64
// to 200 characters, an FCM token about 160, a WebPush URL up to a few hundred.
const (
	maxTokens     = 2
	maxTokenValue = 2048
	maxPushParam  = 512
)

// Channel kinds.
const (
	kindVoIP  = "voip"
	kindAlert = "alert"
)

// ParsePush reads the push parameters among a URI's. Values that exceed the
// bounds count as absent.
func ParsePush(params Params) PushParams {
	provider, ok := params.Get("pn-provider")
	if !ok {
		return parseLegacyPush(params)
	}
	var p PushParams
	p.setProvider(unescapePush(provider))
	p.Key, p.Auth, p.BadKey = pushKeys(params)
	p.Param = bounded(pushValue(params, "pn-param"), maxPushParam)
	prid := pushValue(params, "pn-prid")
	switch {
	case prid == "":
		p.Query = true
	case p.Provider == "apns":
		p.Tokens, p.Class = appleTokens(p.Param, prid)
	case len(prid) <= maxTokenValue:
		p.Tokens = []PushToken{{Kind: kindAlert, App: p.Param, Value: prid}}
	}
	if class := lower(pushValue(params, "pn-class")); class == "split" || class == "single" {
		p.Class = class
	}
	return p
}

// pushKeys reads pn-key and pn-auth, which count together or not at all: what
// only one of them came for could not be sealed.
func pushKeys(params Params) (key, auth string, bad bool) {
	key, auth = pushValue(params, "pn-key"), pushValue(params, "pn-auth")
	if !isPoint(key) || !isSecret(auth) {
		return "", "", key+auth != ""
	}
	return key, auth, false
}

// isPoint says whether s is a point on P-256, uncompressed, in base64url
// without padding (RFC 8291 §3.1).
func isPoint(s string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(bounded(s, 87))
	if err != nil {
		return false
	}
	_, err = ecdh.P256().NewPublicKey(raw)
	return err == nil && raw[0] == 4
}

// isSecret says whether s are 16 octets in base64url without padding (RFC 8291
// §3.2).
func isSecret(s string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(bounded(s, 22))
	return err == nil && len(raw) == 16
}

func (p *PushParams) setProvider(s string) {
	p.Provider = lower(s)
	if p.Provider == "apns.dev" {
		p.Provider, p.Sandbox = "apns", true
	}
}

// appleTokens reads pn-prid "T", "T:voip" or "T:voip&T:remote" for the app and
// channels that pn-param names: "TEAM.bundle.id", with ".voip", ".remote" or
// both joined by "&" behind it (RFC 8599 §9.2 and Linphone's convention).
func appleTokens(param, prid string) (tokens []PushToken, class string) {
	app, services := appleApp(param)
	for i, part := range strings.SplitN(prid, "&", maxTokens+1) {
		if i == maxTokens {
			return nil, ""
		}
		value, service, named := strings.Cut(part, ":")
		if !named && i < len(services) {
			service = services[i]
		}
		if value == "" || len(value) > maxTokenValue {
			continue
		}
		tokens = append(tokens, PushToken{Kind: appleKind(service), App: app, Value: value})
	}
	switch {
	case len(tokens) == 2 && tokens[0].Kind != tokens[1].Kind:
		class = "split"
		if tokens[0].Kind != kindVoIP {
			tokens[0], tokens[1] = tokens[1], tokens[0]
		}
	case len(tokens) == 2: // two tokens for one channel: the first named counts
		tokens = tokens[:1]
		class = soleClass(tokens[0])
	case len(tokens) == 1:
		class = soleClass(tokens[0])
	}
	return tokens, class
}

func soleClass(t PushToken) string {
	if t.Kind == kindVoIP {
		return "single"
	}
	return ""
}

func appleKind(service string) string {
	if strings.EqualFold(service, "voip") {
		return kindVoIP
	}
	return kindAlert
}

// appleApp takes the team off at the first dot and the services at the last.
func appleApp(param string) (app string, services []string) {
	_, app, _ = strings.Cut(param, ".")
	dot := strings.LastIndexByte(app, '.')
	if dot < 0 {
		return app, nil
	}
	services = strings.Split(lower(app[dot+1:]), "&")
	for _, s := range services {
		if s != "voip" && s != "remote" {
			return app, nil
		}
	}
	return app[:dot], services
}

// parseLegacyPush reads the parameters older than RFC 8599: pn-type, app-id
// (bundle with ".voip", ".prod" or ".dev" behind it) and pn-tok.
func parseLegacyPush(params Params) PushParams {
	kind := lower(pushValue(params, "pn-type"))
	token := bounded(pushValue(params, "pn-tok"), maxTokenValue)
	app := bounded(pushValue(params, "app-id"), maxPushParam)
	if kind == "" || token == "" {
		return PushParams{}
	}
	p := PushParams{Param: app}
	t := PushToken{Kind: kindAlert, App: app, Value: token}
	switch kind {
	case "apple":
		p.Provider = "apns"
		t.App, p.Sandbox = strings.CutSuffix(t.App, ".dev")
		t.App, _ = strings.CutSuffix(t.App, ".prod")
		bundle, voip := strings.CutSuffix(t.App, ".voip")
		if t.App = bundle; voip {
			t.Kind = kindVoIP
		}
		p.Class = soleClass(t)
	case "firebase", "google":
		p.Provider = "fcm"
	default:
		p.Provider = kind
	}
	p.Tokens = []PushToken{t}
	return p
}

func pushValue(params Params, name string) string {
	v, _ := params.Get(name)
	return unescapePush(v)
}

func bounded(s string, limit int) string {
	if len(s) > limit {
		return ""
	}
	return s
}

// unescapePush undoes every %XX except control characters, which no token
// holds. Clients escape "&" and ":" because some stacks refuse them.
func unescapePush(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0 {
			if c := byte(unhex(s[i+1])<<4 | unhex(s[i+2])); c > ' ' && c < 0x7f {
				b.WriteByte(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
