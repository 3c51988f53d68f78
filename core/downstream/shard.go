package downstream

import (
	"sync"

	"sallyport/tunnel"
)

// receiver is a flow's tunnel.Handler. It runs on the tunnel's reader, which
// must never wait, so it only queues.
type receiver struct{ f *Flow }

func (r receiver) Message(_ *tunnel.Flow, p []byte) {
	r.f.shard.put(job{f: r.f, kind: jobMessage, msg: append([]byte(nil), p...)})
}

func (r receiver) Event(_ *tunnel.Flow, e tunnel.Event) {
	r.f.shard.put(job{f: r.f, kind: jobEvent, event: e})
}

func (r receiver) Closed(_ *tunnel.Flow, code tunnel.CloseCode, text string) {
	r.f.shard.put(job{f: r.f, kind: jobClosed, code: code, text: text})
}

type jobKind byte

const (
	jobOpened jobKind = iota
	jobMessage
	jobPart
	jobEvent
	jobClosed
)

type job struct {
	f     *Flow
	kind  jobKind
	event tunnel.Event
	code  tunnel.CloseCode
	msg   []byte
	text  string
}

// A shard is one worker's queue. Its length is bounded by the credit of the
// flows that share it.
type shard struct {
	mu     sync.Mutex
	wake   *sync.Cond
	queue  []job // guarded by mu
	closed bool  // guarded by mu
}

func newShard() *shard {
	s := &shard{}
	s.wake = sync.NewCond(&s.mu)
	return s
}

func (s *shard) put(j job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.queue = append(s.queue, j)
	if len(s.queue) == 1 {
		s.wake.Signal()
	}
}

func (s *shard) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.wake.Signal()
}

// take waits for work and returns all there is, nil when the shard has stopped.
// spare is a used batch whose memory may serve again.
func (s *shard) take(spare []job) []job {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == 0 && !s.closed {
		s.wake.Wait()
	}
	batch := s.queue
	if cap(spare) > 1024 {
		spare = nil
	}
	clear(spare[:cap(spare)])
	s.queue = spare[:0]
	return batch
}

func (s *shard) run() {
	var batch []job
	for {
		if batch = s.take(batch); len(batch) == 0 {
			return
		}
		for i := range batch {
			batch[i].do()
		}
	}
}

func (j *job) do() {
	if j.f.gone {
		return
	}
	h := j.f.handler
	switch j.kind {
	case jobOpened:
		h.Opened(j.f)
	case jobMessage:
		j.f.heard()
		h.Message(j.f, j.msg)
		j.f.handled(len(j.msg))
	case jobPart:
		j.f.heard()
		h.(PartHandler).Part(j.f, j.msg) // only such a one has a partReceiver
		j.f.handled(len(j.msg))
	case jobEvent:
		if j.f.setSilent(j.event == tunnel.EventSilent) {
			h.Changed(j.f)
		}
	case jobClosed:
		j.f.gone = true
		j.f.owner.forget(j.f)
		h.Closed(j.f, j.code, j.text)
	}
}
