package webpush

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	// nextAddr is how long an address may take before the next is tried beside
	// it (RFC 8305 §5 recommends 250 ms).
	nextAddr = 250 * time.Millisecond
	// maxAddrs bounds how many addresses of a host are tried.
	maxAddrs = 4
)

// dialer connects to push services at addresses that were looked at: the host
// is resolved here, and what is dialled is an address, so that a name that leads
// elsewhere a moment later leads nowhere.
type dialer struct {
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	guarded func(ctx context.Context, network, addr string, t *target) (net.Conn, error)
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

func newDialer(
	dial func(ctx context.Context, network, addr string) (net.Conn, error),
	resolve func(ctx context.Context, host string) ([]netip.Addr, error),
) dialer {
	d := dialer{dial: dial, resolve: resolve}
	if d.resolve == nil {
		d.resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if dial != nil {
		d.guarded = func(ctx context.Context, network, addr string, _ *target) (net.Conn, error) {
			return dial(ctx, network, addr)
		}
		return d
	}
	d.dial = new(net.Dialer).DialContext
	d.guarded = func(ctx context.Context, network, addr string, t *target) (net.Conn, error) {
		return (&net.Dialer{Control: t.control}).DialContext(ctx, network, addr)
	}
	return d
}

// control looks at the very address that a socket is about to connect to.
func (t *target) control(_, addr string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return forbid("%s is at no address: %v", t.host, err)
	}
	return t.mayDial(a.Addr())
}

// addrs returns where t may be reached. The error is a *forbidden when it is at
// addresses, but none of them may be dialled.
func (d *dialer) addrs(ctx context.Context, t *target) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(t.host); err == nil {
		return []netip.Addr{a}, t.mayDial(a)
	}
	all, err := d.resolve(ctx, t.host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", t.host, err)
	}
	var good []netip.Addr
	var refusal error
	for _, a := range all {
		if err := t.mayDial(a); err != nil {
			refusal = err
		} else {
			good = append(good, a.Unmap())
		}
	}
	switch {
	case len(good) > 0:
		good = alternate(good)
		return good[:min(len(good), maxAddrs)], nil
	case refusal != nil:
		return nil, refusal
	default:
		return nil, fmt.Errorf("resolve %s: no address", t.host)
	}
}

// alternate puts addresses of either kind in turn, beginning with the kind of
// the first, so that a kind that leads nowhere costs a moment (RFC 8305 §4).
func alternate(all []netip.Addr) []netip.Addr {
	var kinds [2][]netip.Addr
	for _, a := range all {
		i := 0
		if a.Is4() != all[0].Is4() {
			i = 1
		}
		kinds[i] = append(kinds[i], a)
	}
	out := make([]netip.Addr, 0, len(all))
	for i := range len(all) {
		for _, k := range kinds {
			if i < len(k) {
				out = append(out, k[i])
			}
		}
	}
	return out
}

// connect opens a TCP connection to t: to its first address, after a moment
// beside it to the next, and to the next at once when one fails.
func (d *dialer) connect(ctx context.Context, t *target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addrs, err := d.addrs(ctx, t)
	if err != nil {
		return nil, err
	}
	type answer struct {
		conn net.Conn
		err  error
	}
	answers := make(chan answer)
	wait := time.NewTimer(0)
	defer wait.Stop()
	var errs []error
	for tried, open := 0, 0; ; {
		select {
		case <-wait.C:
			if tried == len(addrs) {
				continue
			}
			addr := netip.AddrPortFrom(addrs[tried], t.portNumber()).String()
			tried, open = tried+1, open+1
			go func() {
				c, err := d.guarded(ctx, "tcp", addr, t)
				answers <- answer{c, err}
			}()
			wait.Reset(nextAddr)
		case a := <-answers:
			open--
			if a.err == nil {
				cancel()
				for range open { // they have been told to end
					if late := <-answers; late.conn != nil {
						_ = late.conn.Close()
					}
				}
				return a.conn, nil
			}
			errs = append(errs, a.err)
			if open == 0 && tried == len(addrs) {
				return nil, errors.Join(errs...)
			}
			wait.Reset(0)
		}
	}
}
