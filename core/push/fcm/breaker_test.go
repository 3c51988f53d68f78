package fcm_test

import (
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
)

// An answer about a token proves the credentials: whoever registers tokens that
// are dead must not keep the breaker open.
func TestADeadTokenShutsTheBreaker(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		c := g.running(g.config())
		phone, dead := g.phone(), g.phone()
		g.Register(dead.Value, pushtest.FCMApp{Unregistered: true})
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
		g.ExpireTokens()
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.ProviderDown)
		time.Sleep(5 * time.Second)
		wantOutcome(t, c.Send(callContext(t), ring(dead)), push.DeadToken)
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
	})
}
