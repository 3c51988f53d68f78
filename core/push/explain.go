package push

import "time"

// Fact is something an operator may want to know of the way to a token, such
// as {"topic", "org.example.phone.voip"}. Neither part holds a secret.
type Fact struct{ Name, Value string }

// Explainer is a [Sender] that says how a push to t by channel c would travel
// now: host, topic or project, environment, proxy (without its password), age
// of the credential in use, state of the breaker. It sends nothing and waits
// for nobody.
type Explainer interface {
	Explain(t Token, c Channel) []Fact
}

// Kinds of [Trouble].
const (
	TroubleAuth    = "auth"    // the provider refuses our credentials
	TroubleClock   = "clock"   // the provider finds our clock wrong
	TroubleProxy   = "proxy"   // the egress proxy fails or refuses
	TroubleNetwork = "network" // the provider cannot be reached, or does not answer
	TroubleServer  = "server"  // the provider says that it is out of order itself
	TroubleConfig  = "config"  // the provider finds our pushes malformed or not allowed
	TroubleExpiry  = "expiry"  // a credential ends soon
)

// Trouble is what is wrong with an app, for as long as it is.
type Trouble struct {
	Kind   string // one of the constants above
	Text   string // what is wrong, without secrets
	Remedy string // what an operator does about it; "" where nothing is to be done but wait
}

// Condition is how a sender fares.
type Condition struct {
	// Trouble is nil when all is well.
	Trouble *Trouble
	// Open: pushes are not tried for now, since the last ones were refused for a
	// reason that holds for all (the breaker).
	Open bool
	// Connections are open now.
	Connections int
	// CredentialIssued is when the token shown to the provider was issued; zero
	// when none is needed yet.
	CredentialIssued time.Time
}

// Conditioned is a [Sender] that tells its condition, for metrics, status and
// alarms. It waits for nobody.
type Conditioned interface {
	Condition() Condition
}
