package xmppproxy

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"sallyport/core/xmppproxy/session"
)

// maxWriters is how many sessions' journals are written and read at once.
const maxWriters = 32

// journal does what sessions want of the store: for each session one thing
// after the other, for several at once. Its goroutines live while there is
// something to do.
type journal struct {
	store session.Store
	ctx   context.Context
	log   *slog.Logger
	most  int // writers
	work  sync.WaitGroup

	mu      sync.Mutex
	ready   []*line   // guarded by mu: with a job, and none under way
	writers int       // guarded by mu
	said    time.Time // guarded by mu: when a failure was last logged
}

type jobKind uint8

const (
	jobPut jobKind = iota
	jobAppend
	jobTrim
	jobFetch
	jobRemove
)

// job is one thing to do. pos is where to trim or read.
type job struct {
	kind jobKind
	pos  uint64
	data []byte
}

// add has a job done after those that the line has already.
func (j *journal) add(l *line, k job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l.jobs = append(l.jobs, k)
	if l.queued {
		return
	}
	l.queued = true
	j.ready = append(j.ready, l)
	if j.writers < j.most {
		j.writers++
		j.work.Go(j.write)
	}
}

// idle reports whether all is done.
func (j *journal) idle() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.writers == 0
}

func (j *journal) write() {
	for {
		j.mu.Lock()
		if len(j.ready) == 0 {
			j.writers--
			j.ready = nil
			j.mu.Unlock()
			return
		}
		l := j.ready[0]
		j.ready = j.ready[1:]
		k := l.jobs[0]
		j.mu.Unlock()
		j.do(l, k)
		j.mu.Lock()
		if l.jobs = l.jobs[1:]; len(l.jobs) > 0 {
			j.ready = append(j.ready, l)
		} else {
			l.jobs, l.queued = nil, false
		}
		j.mu.Unlock()
	}
}

func (j *journal) do(l *line, k job) {
	var err error
	switch k.kind {
	case jobPut:
		err = j.store.Put(j.ctx, l.key, k.data)
		l.stored(0, err)
	case jobAppend:
		var pos uint64
		pos, err = j.store.Append(j.ctx, l.key, k.data)
		l.stored(pos, err)
	case jobTrim:
		err = j.store.Trim(j.ctx, l.key, k.pos)
	case jobFetch:
		var entries []session.Entry
		entries, err = j.read(l.key, k.pos)
		l.gotEntries(entries, err)
	case jobRemove:
		if err = j.store.Remove(j.ctx, l.key); err != nil {
			l.p.agenda.at(removal{l}, time.Now().Add(removeAgain))
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		j.say(err)
	}
}

// removeAgain is the pause after a session that is over could not be removed.
const removeAgain = 2 * time.Second

// removal tries again to remove what is stored of a line that is over: else it
// would be back with the next start.
type removal struct{ *line }

func (r removal) tick(time.Time) time.Time {
	r.Remove()
	return time.Time{}
}

// read returns about session.FetchBytes of entries, at least one if there is
// one.
func (j *journal) read(key string, from uint64) (list []session.Entry, err error) {
	size := 0
	err = j.store.Read(j.ctx, key, from, func(pos uint64, entry []byte) bool {
		list = append(list, session.Entry{Pos: pos, Data: append([]byte(nil), entry...)})
		size += len(entry)
		return size < session.FetchBytes
	})
	return list, err
}

// say logs a failure, once a minute.
func (j *journal) say(err error) {
	j.mu.Lock()
	now := time.Now()
	quiet := now.Sub(j.said) < time.Minute
	if !quiet {
		j.said = now
	}
	j.mu.Unlock()
	if !quiet {
		j.log.Error("what waits for XMPP clients cannot be written down or read; it is tried again, and servers are not told that it is safe", "err", err)
	}
}
