package e2e

import (
	"runtime"
	"runtime/metrics"
)

// inUse is what edge, core and test hold in this process, in bytes: live heap
// and stacks, after a collection.
func inUse() int {
	runtime.GC()
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return int(samples[0].Value.Uint64() + samples[1].Value.Uint64())
}
