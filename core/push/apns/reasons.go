package apns

import (
	"net/http"

	"sallyport/core/push"
)

// verdict says what an answer of APNs means and what follows from it.
type verdict struct {
	outcome push.Outcome
	// again resends once; fresh retires the connection first. Urgent pushes
	// alone are resent where callOnly is set: Apple asks others to wait a
	// quarter of an hour.
	again, fresh, callOnly bool
	// remint signs a new provider token for the fresh connection.
	remint bool
	// hold keeps the connection's provider token as it was for a while.
	hold bool
	// trip opens the breaker: the credentials are wrong, and each further push
	// would only make Apple angrier.
	trip bool
	// alarm shows the reason on the status page though the breaker stays shut.
	alarm bool
}

// The verdicts that several reasons share.
var (
	dead       = verdict{outcome: push.DeadToken}
	quarantine = verdict{outcome: push.Refused}
	misuse     = verdict{outcome: push.Refused, alarm: true}
	throttled  = verdict{outcome: push.Refused}
	leaving    = verdict{outcome: push.ProviderDown, again: true, fresh: true}
	server     = verdict{outcome: push.ProviderDown, again: true, fresh: true, callOnly: true, alarm: true}
	credential = verdict{outcome: push.ProviderDown, trip: true}
	expired    = verdict{outcome: push.ProviderDown, again: true, fresh: true, remint: true, trip: true}
	updates    = verdict{outcome: push.ProviderDown, again: true, fresh: true, hold: true, alarm: true}
	noAnswer   = verdict{outcome: push.ProviderDown, again: true, fresh: true, alarm: true}
)

// reasons are Apple's ("Handling notification responses from APNs"). Only two
// of them make a token dead: a wrong environment, topic or key answers with
// any of the others for every token there is, and must delete none.
var reasons = map[string]verdict{
	"Unregistered": dead,
	"ExpiredToken": dead,

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
	case a.err != nil:
		return noAnswer
	case a.status == http.StatusOK:
		return verdict{outcome: push.Accepted}
	case a.status == http.StatusGone:
		return dead
	case a.status >= 500:
		return server
	default:
		return misuse
	}
}
