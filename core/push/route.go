package push

import "slices"

// need is what a push is for.
type need int

const (
	needCall need = iota
	needNote
	// needRegister is a note that shows nothing ([EventRegister]), which Apple
	// allows on the Message channel alone.
	needRegister
)

// anyOf stands in the table for each class, and for each kind of token.
const anyOf = ""

// table is the choice of the channel: which kind of token of a device a push
// goes to, and by which channel. Of the rows that fit, the first whose kind the
// device ever gave is the only one used, dead or not: a call is not announced by
// the Message channel because the VoIP token died (B19), and a class with one
// channel uses it for both (B8). FCM and WebPush have one token for both
// channels, and the channel is in the payload (FCM) or is the urgency (WebPush).
var table = []struct {
	provider, class string
	need            need
	kind            string
	channel         Channel
}{
	{ProviderAPNs, ClassSplit, needCall, KindVoIP, VoIP},
	{ProviderAPNs, ClassSplit, needNote, KindAlert, Message},
	{ProviderAPNs, ClassSplit, needRegister, KindAlert, Message},

	{ProviderAPNs, ClassSingle, needCall, KindVoIP, VoIP},
	{ProviderAPNs, ClassSingle, needCall, KindAlert, Message},
	{ProviderAPNs, ClassSingle, needNote, KindVoIP, VoIP},
	{ProviderAPNs, ClassSingle, needNote, KindAlert, Message},
	{ProviderAPNs, ClassSingle, needRegister, KindAlert, Message},

	{ProviderFCM, anyOf, needCall, anyOf, VoIP},
	{ProviderFCM, anyOf, needNote, anyOf, Message},
	{ProviderFCM, anyOf, needRegister, anyOf, Message},

	{ProviderWebPush, anyOf, needCall, anyOf, VoIP},
	{ProviderWebPush, anyOf, needNote, anyOf, Message},
	{ProviderWebPush, anyOf, needRegister, anyOf, Message},
}

// way looks up the table for a device with these tokens at a provider. A
// provider that nobody knows has no way.
func way(provider, class string, n need, tokens []Token) (kind string, channel Channel, ok bool) {
	for _, r := range table {
		if r.provider == provider && (r.class == anyOf || r.class == class) && r.need == n &&
			(r.kind == anyOf || hasKind(tokens, r.kind)) {
			return r.kind, r.channel, true
		}
	}
	return "", "", false
}

// dataChannels are the channels that needs are meant for.
var dataChannels = map[need]Channel{needCall: VoIP, needNote: Message, needRegister: Message}

// classOf completes a class the client did not declare: who gave tokens of
// both kinds has two channels.
func classOf(class string, tokens []Token) string {
	if class == ClassSplit || class == ClassSingle {
		return class
	}
	if hasKind(tokens, KindVoIP) && hasKind(tokens, KindAlert) {
		return ClassSplit
	}
	return ClassSingle
}

func hasKind(tokens []Token, kind string) bool {
	return slices.ContainsFunc(tokens, func(t Token) bool {
		return t.Provider == ProviderAPNs && t.kind() == kind
	})
}

// kind is the token's kind, with the one that RFC 8599 means when it names none.
func (t Token) kind() string {
	if t.Kind == KindVoIP {
		return KindVoIP
	}
	return KindAlert
}

// route is the way one push takes.
type route struct {
	token   Token
	channel Channel
	app     *App
}

// find chooses the token for a need. Dead tokens are never chosen, quarantined
// ones if there is no other, and of several that are alike the newest. It
// depends on nothing but its arguments. Without a route the reason says what is
// missing.
func find(apps []App, tokens []Token, class string, n need) (r route, reason string) {
	class = classOf(class, tokens)
	reason = missing(tokens, n)
	for _, t := range tokens {
		kind, channel, ok := way(t.Provider, class, n, tokens)
		if ok && kind != anyOf && kind != t.kind() {
			continue
		}
		if t.Dead || t.Value == "" {
			if r.app == nil {
				reason = "the token for this channel is dead"
			}
			continue
		}
		app, why := fit(apps, t)
		switch {
		case app == nil && r.app == nil:
			reason = why
		case app != nil && ok && (r.app == nil || t.better(r.token)):
			r = route{token: t, channel: channel, app: app}
		}
	}
	if r.app != nil {
		reason = ""
	}
	return r, reason
}

// better reports whether t is to be chosen before o.
func (t Token) better(o Token) bool {
	if (t.Suspects > 0) != (o.Suspects > 0) {
		return o.Suspects > 0
	}
	return t.Registered.After(o.Registered)
}

// missing says what a device lacks when no token of it suits.
func missing(tokens []Token, n need) string {
	switch {
	case len(tokens) == 0:
		return "the device has no push token"
	case n == needCall:
		return "the device has no token for the VoIP channel"
	default:
		return "the device has no token for the Message channel"
	}
}
