package webpush

import "context"

// CheckToken says where a token leads without a list of allowed hosts.
func CheckToken(token string) (origin, host string, err error) {
	p, err := newPolicy(nil)
	if err != nil {
		return "", "", err
	}
	_, t, err := p.check(token)
	return t.origin, t.host, err
}

// Connect dials addr as an address of token's host, whatever it resolves to.
func Connect(ctx context.Context, cfg Config, token, addr string) error {
	p, err := newPolicy(cfg.Allow)
	if err != nil {
		return err
	}
	_, t, err := p.check(token)
	if err != nil {
		return err
	}
	d := newDialer(cfg.Dial, cfg.Resolve)
	c, err := d.guarded(ctx, "tcp", addr, &t)
	if err == nil {
		_ = c.Close()
	}
	return err
}

// MaxOrigins is how many push services are known at a time.
const MaxOrigins = maxOrigins

// Known counts the push services that are known.
func Known(c *Client) int { return len(c.origins.all()) }
