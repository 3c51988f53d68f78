package apns

import (
	"context"
	"sync"

	"sallyport/core/push"
)

// maxAstray bounds the tokens that are remembered to be of the environment
// that their client did not name.
const maxAstray = 4096

// astray are such tokens, by value, with whether they are the sandbox's.
type astray struct {
	mu     sync.Mutex
	tokens map[string]bool // guarded by mu
}

func (a *astray) get(token string) (sandbox, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	sandbox, known = a.tokens[token]
	return sandbox, known
}

func (a *astray) set(token string, sandbox bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tokens == nil || len(a.tokens) >= maxAstray {
		a.tokens = make(map[string]bool)
	}
	a.tokens[token] = sandbox
}

// endpoint is where a token belongs, as far as is known.
func (c *Client) endpoint(t push.Token) *endpoint {
	if sandbox, known := c.astray.get(t.Value); known {
		return c.endpoints[sandbox]
	}
	return c.endpoints[t.Sandbox]
}

// elsewhere tries a token that s's endpoint does not know at Apple's other
// environment, once, where this app is known to have tokens there too: a push
// was accepted. It reports whether the token belongs there.
func (c *Client) elsewhere(ctx context.Context, s *sending, t push.Token) (answer, bool) {
	sandbox := c.endpoints[true] != s.e
	other := c.endpoints[sandbox]
	if other == s.e || !other.proven.Load() || ctx.Err() != nil {
		return answer{}, false
	}
	second := s.to(other)
	a := c.attempts(ctx, second)
	v := judge(a)
	c.note(ctx, other, v, a)
	if v.outcome != push.Accepted && v.outcome != push.DeadToken {
		return answer{}, false
	}
	c.astray.set(t.Value, sandbox)
	c.log.Info("push token is of Apple's other environment", "token", t, "sandbox", sandbox)
	return a, true
}
