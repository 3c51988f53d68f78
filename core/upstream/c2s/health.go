package c2s

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"sallyport/core/stanza"
)

// Status is how a domain's servers fare.
type Status struct {
	Domain   string
	Upstream string // as configured
	// Server is the one that the latest stream was opened to, "" before.
	Server string
	// Up: the latest stream could be opened, and clients can log in.
	Up bool
	// Since is when Up last changed, or was first known; zero before.
	Since time.Time
	// LastOK is when a stream was last opened.
	LastOK time.Time
	// RTT is how long that took, from DNS to the features.
	RTT time.Duration
	// LastError is why not, with its remedy; "" when Up.
	LastError string
	// Phase is how far the latest attempt came; "" when Up.
	Phase Phase
	// Mechanisms are what the server offered to log in with.
	Mechanisms []string
	// SM says whether the server offers stream management (XEP-0198), known
	// once somebody logged in: "yes", "no" or "".
	SM string
	// Streams are open now.
	Streams int
}

// Status tells how the domain's servers fare.
func (d *Domain) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.health
	st.Mechanisms = slices.Clone(st.Mechanisms)
	return st
}

// Run keeps the domain's health known: it opens a stream, and again whenever no
// client's has told for [Config.Probe]. It blocks until ctx is done, and
// returns nil then.
func (d *Domain) Run(ctx context.Context) error {
	d.cfg.Metrics.up.WithLabelValues(d.cfg.Name).Set(0)
	defer d.cfg.Metrics.forget(d.cfg.Name)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		d.mu.Lock()
		quiet := time.Since(d.told)
		d.mu.Unlock()
		if quiet < d.cfg.Probe {
			timer.Reset(d.cfg.Probe - quiet)
			continue
		}
		if s, err := d.Open(ctx, netip.Addr{}); err == nil {
			s.Close(true)
		}
		timer.Reset(d.cfg.Probe)
	}
}

// note takes the outcome of an attempt to open a stream.
func (d *Domain) note(s *Stream, e *Error, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	first := d.health.Since.IsZero()
	was := d.health
	d.told = now
	h := &d.health
	if h.Up = e == nil; h.Up {
		h.LastError, h.Phase = "", ""
		h.LastOK, h.RTT, h.Server, h.Mechanisms = now, took, s.remote.String(), s.mechanisms
	} else {
		h.LastError, h.Phase = e.Error(), e.Phase
	}
	if first || was.Up != h.Up {
		h.Since = now
	}
	up := 0.0
	if h.Up {
		up = 1
	}
	d.cfg.Metrics.up.WithLabelValues(d.cfg.Name).Set(up)
	switch { // said once, until it changes
	case h.Up && (first || !was.Up):
		d.log.Info("xmpp server takes clients", "upstream", d.target.URI, "server", h.Server, "rtt", took.Round(time.Microsecond))
	case !h.Up && (first || was.Up || was.Phase != h.Phase):
		d.log.Error("xmpp server does not take clients", "err", e)
	}
}

// learn takes from the features after a login what cannot be seen before.
func (d *Domain) learn(features *stanza.Element) {
	sm := "no"
	if readOffer(features).sm {
		sm = "yes"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.health.SM != sm && sm == "no" {
		d.log.Warn("xmpp server offers no stream management (XEP-0198): what it sends while the core is down is lost",
			"upstream", d.target.URI, "remedy", "enable Prosody's smacks, ejabberd's mod_stream_mgmt")
	}
	d.health.SM = sm
}

// joined and left count the open streams.
func (d *Domain) joined() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.health.Streams++
	d.cfg.Metrics.streams.WithLabelValues(d.cfg.Name).Inc()
}

func (d *Domain) left() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.health.Streams--
	d.cfg.Metrics.streams.WithLabelValues(d.cfg.Name).Dec()
}
