package upstream

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// NAPTR is one record of RFC 3403 as RFC 3263 §4.1 uses it.
type NAPTR struct {
	Order, Preference uint16
	Flags, Service    string
	// Replacement is the name whose SRV records follow.
	Replacement string
}

// naptrResolver is a [Resolver] that knows NAPTR records too; one that does
// not leaves them aside.
type naptrResolver interface {
	LookupNAPTR(ctx context.Context, name string) ([]NAPTR, error)
}

// naptrServices are the services that we speak, and over what.
var naptrServices = map[string]string{"SIPS+D2T": tlsTransport, "SIP+D2T": tcp, "SIP+D2U": udp}

// maxNAPTR bounds the records that are followed.
const maxNAPTR = 8

// resolveNAPTR follows the records of a host, in their order, to the servers
// of the transports that we speak. It returns nothing where there are none.
func (u *Upstream) resolveNAPTR(ctx context.Context, t Target) (found []place) {
	r, ok := u.cfg.Resolver.(naptrResolver)
	if !ok {
		return nil
	}
	records, err := r.LookupNAPTR(ctx, t.Host)
	if err != nil {
		return nil
	}
	slices.SortStableFunc(records, func(a, b NAPTR) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Preference, b.Preference))
	})
	tier := 0
	for _, rec := range records[:min(len(records), maxNAPTR)] {
		transport := naptrServices[strings.ToUpper(rec.Service)]
		if transport == "" || !strings.EqualFold(rec.Flags, "s") || transport == udp && !u.cfg.listensUDP() {
			continue
		}
		// The name is that of the SRV records as it stands (RFC 3263 §4.1).
		_, srv, err := u.cfg.Resolver.LookupSRV(ctx, "", "", strings.TrimSuffix(rec.Replacement, "."))
		if err != nil {
			continue
		}
		t.Transport = transport
		next := tier
		for _, p := range u.resolveSRV(ctx, t, srv) {
			p.tier += tier
			next = max(next, p.tier+1)
			found = append(found, p)
		}
		tier = next
	}
	return found
}
