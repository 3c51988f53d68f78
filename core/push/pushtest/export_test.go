package pushtest

// Verify reports whether the simulator takes a provider token's form and
// signature.
func Verify(s *APNs, token string) bool {
	_, ok := s.keys.verify(token)
	return ok
}
