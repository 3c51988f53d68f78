package xmppproxy

import (
	"strings"
	"sync"
)

// registry knows all lines.
type registry struct {
	mu     sync.RWMutex
	byID   map[string]*line   // by the client's previd; guarded by mu
	byUser map[string][]*line // by bare JID; guarded by mu
	all    map[*line]struct{} // guarded by mu
}

func newRegistry() *registry {
	return &registry{byID: make(map[string]*line), byUser: make(map[string][]*line), all: make(map[*line]struct{})}
}

// add takes a line in, or a line that has another previd or JID now.
func (r *registry) add(l *line, id, jid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(l)
	l.id, l.jid = id, jid
	r.byID[id] = l
	bare := bareOf(jid)
	r.byUser[bare] = append(r.byUser[bare], l)
	r.all[l] = struct{}{}
}

// forget lets a line go.
func (r *registry) forget(l *line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(l)
}

// remove does so under r.mu.
func (r *registry) remove(l *line) {
	if _, ok := r.all[l]; !ok {
		return
	}
	delete(r.all, l)
	if r.byID[l.id] == l {
		delete(r.byID, l.id)
	}
	bare := bareOf(l.jid)
	list := r.byUser[bare]
	for i, o := range list {
		if o == l {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(r.byUser, bare)
	} else {
		r.byUser[bare] = list
	}
}

// withID finds the line of a previd, nil for none.
func (r *registry) withID(id string) *line {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byID[id]
}

// withJID finds the line of a full JID, nil for none.
func (r *registry) withJID(jid string) *line {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, l := range r.byUser[bareOf(jid)] {
		if l.jid == jid {
			return l
		}
	}
	return nil
}

// of lists the lines of a bare JID.
func (r *registry) of(bare string) []*line {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return append([]*line(nil), r.byUser[bare]...)
}

// count is how many lines there are, and how many a bare JID has.
func (r *registry) count(bare string) (all, user int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.all), len(r.byUser[bare])
}

// each calls do with all lines, in no order, without a lock.
func (r *registry) each(do func(*line)) {
	r.mu.RLock()
	list := make([]*line, 0, len(r.all))
	for l := range r.all {
		list = append(list, l)
	}
	r.mu.RUnlock()
	for _, l := range list {
		do(l)
	}
}

// bareOf is a full JID without its resource.
func bareOf(jid string) string {
	bare, _, _ := strings.Cut(jid, "/")
	return bare
}
