package push

import "slices"

// need is what a push is for.
type need int

const (
	needCall need = iota
	needNote
)

// kinds says which kinds of token of Apple's serve a class of device, best
// first. Of these the first that the device ever gave is the only one used:
// a call is not announced by the Message channel because the VoIP token died
// (B19), and a class with one channel uses it for both (B8).
var kinds = map[string]map[need][]string{
	ClassSplit: {
		needCall: {KindVoIP},
		needNote: {KindAlert},
	},
	ClassSingle: {
		needCall: {KindVoIP, KindAlert},
		needNote: {KindVoIP, KindAlert},
	},
}

// dataChannels are the channels of the providers that have one kind of token
// for both.
var dataChannels = map[need]Channel{needCall: VoIP, needNote: Message}

// kindChannels are the channels of Apple's kinds of token.
var kindChannels = map[string]Channel{KindVoIP: VoIP, KindAlert: Message}

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

// find chooses the token for a need, the newest where there are several. It
// depends on nothing but its arguments. Without a route the reason says what
// is missing.
func find(apps []App, tokens []Token, class string, n need) (r route, reason string) {
	kind := ""
	for _, k := range kinds[classOf(class, tokens)][n] {
		if hasKind(tokens, k) {
			kind = k
			break
		}
	}
	reason = missing(tokens, n)
	for _, t := range tokens {
		channel := dataChannels[n]
		if t.Provider == ProviderAPNs {
			if t.kind() != kind {
				continue
			}
			channel = kindChannels[kind]
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
		case app != nil && (r.app == nil || t.Registered.After(r.token.Registered)):
			r = route{token: t, channel: channel, app: app}
		}
	}
	if r.app != nil {
		reason = ""
	}
	return r, reason
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
