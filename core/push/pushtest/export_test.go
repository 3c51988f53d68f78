package pushtest

import "time"

// Verify reports whether the simulator takes a provider token's form and
// signature.
func Verify(s *APNs, token string) bool {
	_, ok := s.keys.verify(token)
	return ok
}

// OpenWebPush is what a user agent does with a body.
var OpenWebPush = openWebPush

// AcceptsVAPID reports whether an Authorization is taken.
func AcceptsVAPID(field, origin string, now time.Time) bool {
	_, refused := parseVAPID(field, origin, now)
	return refused == nil
}

// GrantsAccess reports whether an assertion is taken.
func GrantsAccess(s *FCM, assertion string, audience string, now time.Time) bool {
	_, fault := s.oauth.grant(assertion, []string{audience}, now)
	return fault == nil
}

// ShapeFault is what FCM's schema says of a body.
func ShapeFault(body []byte) string { return sendRequest("", body) }

// WithinQuota counts a message to a device and reports whether it may go.
func WithinQuota(s *FCM, token string, now time.Time) bool { return s.quota.take(token, false, now) }
