package e2e

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// inUse is what edge, core and test hold in this process, in bytes: live heap
// and stacks, after a collection.
func inUse() int {
	runtime.GC()
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return int(samples[0].Value.Uint64() + samples[1].Value.Uint64())
}

// edgeMetric is the sum of a metric of the edge, over the label value given or
// over all.
func (t *Town) edgeMetric(tb testing.TB, name, label string) (sum float64) {
	tb.Helper()
	families, err := t.EdgeMetrics.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" || len(m.GetLabel()) > 0 && m.GetLabel()[0].GetValue() == label {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
