package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
)

// Event is something a client told, in its own words.
type Event struct {
	Name string
	// Facts are its fields, as JSON has them.
	Facts map[string]any
}

// String returns one fact as text, "" when it is absent.
func (e Event) String(fact string) string {
	if v, ok := e.Facts[fact]; ok && v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// events collects what a client tells; a story reads it in order.
type events struct {
	mu      sync.Mutex
	all     []Event
	next    int // the first that Expect has not passed
	changed chan struct{}
	partial []byte
}

func newEvents() *events { return &events{changed: make(chan struct{})} }

func (e *events) add(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
	close(e.changed)
	e.changed = make(chan struct{})
}

// Write takes JSON lines with an "event" field, as a client's stdout.
func (e *events) Write(p []byte) (int, error) {
	e.partial = append(e.partial, p...)
	for {
		line, rest, found := strings.Cut(string(e.partial), "\n")
		if !found {
			return len(p), nil
		}
		e.partial = []byte(rest)
		var facts map[string]any
		if json.Unmarshal([]byte(line), &facts) == nil {
			name, _ := facts["event"].(string)
			e.add(Event{Name: name, Facts: facts})
		}
	}
}

// expect waits for the next event of that name and skips those before it. An
// event of a name in unwanted ends the wait.
func (e *events) expect(ctx context.Context, name string, exited <-chan struct{}, unwanted ...string) (Event, error) {
	for {
		e.mu.Lock()
		for i := e.next; i < len(e.all); i++ {
			ev := e.all[i]
			if ev.Name == name {
				e.next = i + 1
				e.mu.Unlock()
				return ev, nil
			}
			for _, bad := range unwanted {
				if ev.Name == bad {
					e.next = i + 1
					e.mu.Unlock()
					return ev, fmt.Errorf("%s instead of %s: %v", bad, name, ev.Facts)
				}
			}
		}
		seen, changed := e.names(), e.changed
		e.mu.Unlock()
		select {
		case <-changed:
		case <-exited:
			return Event{}, fmt.Errorf("ended before %s; told so far: %s", name, seen)
		case <-ctx.Done():
			return Event{}, fmt.Errorf("no %s, only %s: %w", name, seen, context.Cause(ctx))
		}
	}
}

// count returns how often a name was told.
func (e *events) count(name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, ev := range e.all {
		if ev.Name == name {
			n++
		}
	}
	return n
}

// names lists what was told. e.mu is held.
func (e *events) names() string {
	all := make([]string, len(e.all))
	for i, ev := range e.all {
		all[i] = ev.Name
	}
	return strings.Join(all, " ")
}
