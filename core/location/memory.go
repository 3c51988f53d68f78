package location

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// Memory is a [Store] that forgets everything with the process: for tests, and
// for a demonstration that leaves nothing behind. The zero value is ready.
type Memory struct {
	mu      sync.Mutex
	records map[string][]byte // guarded by mu
}

// Load returns a copy of all records.
func (m *Memory) Load(context.Context) (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string][]byte, len(m.records))
	for k, v := range maps.All(m.records) {
		all[k] = slices.Clone(v)
	}
	return all, nil
}

// Put keeps a copy of value.
func (m *Memory) Put(key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records == nil {
		m.records = make(map[string][]byte)
	}
	m.records[key] = slices.Clone(value)
	return nil
}

// Delete forgets key.
func (m *Memory) Delete(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, key)
	return nil
}
