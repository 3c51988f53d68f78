package push

import (
	"strings"
)

// reading is what a reason means, and what an operator does about it.
type reading struct{ meaning, remedy string }

// Remedies that several reasons share.
const (
	fixKey      = "do team_id, key_id and key_file belong together, and is the key still valid at Apple?"
	fixClock    = "set this machine's clock right: is NTP running?"
	fixID       = "is id the bundle id of an app of this team?"
	fixEnv      = "set environment to sandbox for development builds, to production for all others"
	fixBug      = "this is a defect of this program: please report it with the log line"
	fixAgain    = "the app must register again with a new token"
	fixWait     = "wait: it is sent again by itself"
	fixAccount  = "is service_account of the Firebase project that the app was built with, and may it send messages?"
	fixVAPID    = "is vapid_key the key that the page subscribed with?"
	fixSmaller  = "it was sent once more without content"
	fixOverload = "fewer messages would do: look at push.per_minute"
)

// reasons are the providers' words ("Handling notification responses from
// APNs", Google's FcmError.ErrorCode). They bound the label of the metrics as
// well.
var reasons = map[string]reading{
	"Unregistered":               {"the app was removed, or the token replaced", fixAgain},
	"ExpiredToken":               {"the token is too old", fixAgain},
	"BadDeviceToken":             {"Apple does not know the token in this environment", fixEnv},
	"DeviceTokenNotForTopic":     {"the token is of another app, or of the other channel", fixID},
	"BadTopic":                   {"Apple does not know the app", fixID},
	"TopicDisallowed":            {"the key may not push to the app", fixID},
	"MissingTopic":               {"the app was not named", fixBug},
	"InvalidPushType":            {"the kind of push does not fit the app's topic", fixBug},
	"BadPriority":                {"the priority does not fit the kind of push", fixBug},
	"BadCollapseId":              {"the collapse id is malformed", fixBug},
	"BadExpirationDate":          {"the expiration is malformed", fixBug},
	"BadMessageId":               {"the id is malformed", fixBug},
	"DuplicateHeaders":           {"a header came twice", fixBug},
	"MissingDeviceToken":         {"no token was named", fixBug},
	"PayloadEmpty":               {"the push was empty", fixBug},
	"PayloadTooLarge":            {"the push was too large", fixSmaller},
	"BadPath":                    {"the request went to a wrong path", fixBug},
	"MethodNotAllowed":           {"the request had a wrong method", fixBug},
	"IdleTimeout":                {"Apple closed an idle connection", fixWait},
	"Shutdown":                   {"a server of Apple's is leaving", fixWait},
	"InternalServerError":        {"Apple is out of order", fixWait},
	"ServiceUnavailable":         {"Apple is out of order", fixWait},
	"ExpiredProviderToken":       {"the provider finds our clock wrong", fixClock},
	"InvalidProviderToken":       {"Apple refuses our key", fixKey},
	"MissingProviderToken":       {"Apple saw no key", fixKey},
	"UnrelatedKeyIdInToken":      {"the key is of another team or app", fixKey},
	"BadEnvironmentKeyIdInToken": {"the key is for Apple's other environment", fixEnv},
	"BadEnvironmentKeyInToken":   {"the key is for Apple's other environment", fixEnv},
	"BadCertificate":             {"Apple refuses our credentials", fixKey},
	"BadCertificateEnvironment":  {"the credentials are for Apple's other environment", fixEnv},
	"Forbidden":                  {"Apple refuses our credentials", fixKey},
	"TooManyProviderTokenUpdates": {
		"the provider token was changed too often", "let no other program push with the same key from this address"},
	"TooManyRequests": {"the device got too many pushes", fixOverload},

	"UNREGISTERED":           {"the app was removed, or the token replaced", fixAgain},
	"INVALID_ARGUMENT":       {"Google finds the token or the message malformed", fixAgain},
	"SENDER_ID_MISMATCH":     {"the token is of another Firebase project", fixAccount},
	"QUOTA_EXCEEDED":         {"more was sent than Google allows", fixOverload},
	"UNAVAILABLE":            {"Google is out of order", fixWait},
	"INTERNAL":               {"Google is out of order", fixWait},
	"THIRD_PARTY_AUTH_ERROR": {"a key for Apple or the web is missing at Firebase", fixAccount},
	"UNAUTHENTICATED":        {"Google refuses our credentials", fixAccount},
	"PERMISSION_DENIED":      {"the service account may not send", fixAccount},
	"NOT_FOUND":              {"Google does not know the project", fixAccount},
}

// outcomes are what is known where the reason is not.
var outcomes = map[Outcome]reading{
	Accepted:     {"the provider has it; the device wakes if it is reachable", ""},
	NoRoute:      {"no push can be sent", "compare [[push.app]] id, provider and team_id with the app's"},
	DeadToken:    {"the provider calls the token dead", fixAgain},
	ProviderDown: {"the provider was not reached, or is out of order", "look at the way to the provider: DNS, firewall, [push] proxy"},
	Refused:      {"the provider refused this push", "look at key_id, team_id, environment and the app's id"},
	Quiet:        {"the user is not to be disturbed", "quiet hours are in [[push.quiet]]; `sallyport dnd` lists the rest"},
}

// Meaning says what a result means, and what an operator does about it, if
// anything.
func Meaning(r Result) (meaning, remedy string) {
	read, ok := reasons[word1(r.Reason)]
	if !ok || r.Outcome == Accepted {
		read = outcomes[r.Outcome]
	}
	if r.Provider == ProviderWebPush && (r.Status == 401 || r.Status == 403) {
		read = reading{"the push service refuses our key", fixVAPID}
	}
	return read.meaning, read.remedy
}

// label is a reason in a bounded set: one of the table's, or a class.
func (r Result) label() string {
	first := word1(r.Reason)
	_, known := reasons[first]
	switch {
	case r.Outcome == Accepted:
		return "none"
	case known:
		return first
	case r.Outcome == Quiet, r.Outcome == NoRoute:
		return string(r.Outcome)
	case r.Status >= 500:
		return "http_5xx"
	case r.Status >= 400:
		return "http_4xx"
	case r.Status == 0:
		return "no_answer"
	default:
		return "other"
	}
}

// word1 is the provider's word at the head of a reason.
func word1(reason string) string {
	i := strings.IndexFunc(reason, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '_' })
	if i < 0 {
		return reason
	}
	return reason[:i]
}
