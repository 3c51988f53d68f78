package apns

import (
	"errors"
	"net/http"
	"time"

	"sallyport/core/push"
)

// verdict says what an answer of APNs means and what follows from it.
type verdict struct {
	outcome push.Outcome
	// again resends once, on another connection. Only urgent pushes are resent
	// where callOnly is set: with the others Apple asks us to wait for a quarter
	// of an hour.
	again, callOnly bool
	// dead says that the connection serves no more, resent or not.
	dead bool
	// remint signs a new provider token for the fresh connection.
	remint bool
	// hold keeps the connection's provider token as it was for a while.
	hold bool
	// trip opens the breaker: the credentials are wrong, and each further push
	// would only make Apple angrier.
	trip bool
	// alarm shows the reason on the status page though the breaker stays shut.
	alarm bool
	// suspect: it speaks against the token, unless we pushed to the wrong
	// environment or topic.
	suspect bool
	// retry is how long to wait before the push may be sent again; 0 is never.
	// Where trip is set it waits for the breaker instead.
	retry time.Duration
}

// How long to wait before a push is sent again.
const (
	// soon is for trouble on the way to Apple; who sends again backs off.
	soon = 5 * time.Second
	// afterThrottle is for a device token that took too many pushes in a row.
	afterThrottle = 30 * time.Second
	// afterServer is Apple's word on its own errors.
	afterServer = 15 * time.Minute
)

// The verdicts that several reasons share.
var (
	gone       = verdict{outcome: push.DeadToken}
	quarantine = verdict{outcome: push.Refused, suspect: true}
	misuse     = verdict{outcome: push.Refused, alarm: true}
	throttled  = verdict{outcome: push.Refused, retry: afterThrottle}
	leaving    = verdict{outcome: push.ProviderDown, again: true, dead: true, retry: soon}
	noAnswer   = verdict{outcome: push.ProviderDown, again: true, dead: true, alarm: true, retry: soon}
	server     = verdict{outcome: push.ProviderDown, again: true, callOnly: true, alarm: true, retry: afterServer}
	updates    = verdict{outcome: push.ProviderDown, again: true, hold: true, alarm: true, retry: keepToken}
	expired    = verdict{outcome: push.ProviderDown, again: true, remint: true, trip: true}
	credential = verdict{outcome: push.ProviderDown, trip: true}
	crowded    = verdict{outcome: push.ProviderDown, alarm: true, retry: soon}
)

// reasons are Apple's ("Handling notification responses from APNs"). Only two
// of them make a token dead: a wrong environment, topic or key answers with
// any of the others for every token there is, and must delete none.
var reasons = map[string]verdict{
	"Unregistered": gone,
	"ExpiredToken": gone,

	"BadDeviceToken":         quarantine,
	"DeviceTokenNotForTopic": quarantine,

	"BadTopic":           misuse,
	"MissingTopic":       misuse,
	"TopicDisallowed":    misuse,
	"InvalidPushType":    misuse,
	"BadPriority":        misuse,
	"BadCollapseId":      misuse,
	"BadExpirationDate":  misuse,
	"BadMessageId":       misuse,
	"DuplicateHeaders":   misuse,
	"MissingDeviceToken": misuse,
	"PayloadEmpty":       misuse,
	"BadPath":            misuse,
	"MethodNotAllowed":   misuse,
	"PayloadTooLarge":    misuse, // core/push sends it once more without content

	"IdleTimeout": leaving,
	"Shutdown":    leaving,

	"ExpiredProviderToken":        expired,
	"TooManyProviderTokenUpdates": updates,
	"TooManyRequests":             throttled,

	"InvalidProviderToken":       credential,
	"MissingProviderToken":       credential,
	"UnrelatedKeyIdInToken":      credential,
	"BadEnvironmentKeyIdInToken": credential,
	"BadEnvironmentKeyInToken":   credential, // what live servers say for the one above
	"BadCertificate":             credential,
	"BadCertificateEnvironment":  credential,
	"Forbidden":                  credential,

	"InternalServerError": server,
	"ServiceUnavailable":  server,
}

// judge finds the verdict on an answer. A reason that Apple invents tomorrow
// is judged by its status.
func judge(a answer) verdict {
	if v, ok := reasons[a.reason]; ok {
		return v
	}
	switch {
	case late(a.err), errors.Is(a.err, errClosed):
		return crowded
	case a.err != nil:
		return noAnswer
	case a.status == http.StatusOK:
		return verdict{outcome: push.Accepted}
	case a.status == http.StatusGone:
		return gone
	case a.status >= 500:
		return server
	default:
		return misuse
	}
}
