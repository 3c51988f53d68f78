package edge

import (
	"github.com/prometheus/client_golang/prometheus"

	"sallyport/certs"
)

var (
	expiryDesc = prometheus.NewDesc("sallyport_edge_certificate_expiry_timestamp_seconds",
		"When a certificate ends, in seconds since 1970, by name and by source: acme, file or tunnel.",
		[]string{"name", "source"}, nil)
	attemptsDesc = prometheus.NewDesc("sallyport_edge_acme_attempts_total",
		"Attempts to fetch a certificate, by outcome: issued, refused by the authority, or authority unreached.",
		[]string{"outcome"}, nil)
)

// certificateMetrics tells of certificates when it is asked.
type certificateMetrics struct{ s *Server }

// Describe is prometheus.Collector's.
func (certificateMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- expiryDesc
	ch <- attemptsDesc
}

// Collect is prometheus.Collector's.
func (m certificateMetrics) Collect(ch chan<- prometheus.Metric) {
	type key struct{ name, source string }
	ends := make(map[key]float64)
	all := append(m.s.public.Ends(), certs.End{Name: m.s.identity.Name(), Source: "tunnel", NotAfter: m.s.identity.NotAfter()})
	for _, e := range all { // of several for one name, the first to end
		k, at := key{e.Name, e.Source}, float64(e.NotAfter.Unix())
		if before, ok := ends[k]; !ok || at < before {
			ends[k] = at
		}
	}
	for k, at := range ends {
		ch <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, at, k.name, k.source)
	}
	if m.s.fetched == nil {
		return
	}
	st := m.s.fetched.Status()
	for outcome, n := range map[string]uint64{"issued": st.Issued, "refused": st.Refused, "unreached": st.Unreached} {
		ch <- prometheus.MustNewConstMetric(attemptsDesc, prometheus.CounterValue, float64(n), outcome)
	}
}
