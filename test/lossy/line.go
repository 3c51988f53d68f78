package lossy

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Line is how bad the line is, in each direction.
type Line struct {
	Delay time.Duration // one way
	Loss  float64       // share of packets lost, 0 to 1, each on its own
	Rate  int           // bits a second, headers included; 0 is any
	Queue int           // packets that wait for Rate before the next is lost; 0 is 1000
	Cut   bool          // everything is lost, and nobody is told
}

// Count is what has become of the packets of one direction.
type Count struct{ Sent, Lost int64 }

// maxPacket is the MTU of the devices.
const maxPacket = 1500

// packet is one that is under way.
type packet struct {
	due  time.Time
	data []byte
}

// way is one direction of the line.
type way struct {
	line atomic.Pointer[Line]

	// Owned by take.
	random *rand.Rand
	free   time.Time // when the rate has room for another packet

	flying     chan packet
	sent, lost atomic.Int64
	pool       sync.Pool
}

// deepest bounds what is under way in one direction: at 1500 bytes, 96 MB.
const deepest = 1 << 16

func newWay(line Line, seed uint64) *way {
	w := &way{
		random: rand.New(rand.NewPCG(seed, seed)),
		flying: make(chan packet, deepest),
		pool:   sync.Pool{New: func() any { b := make([]byte, maxPacket); return &b }},
	}
	w.line.Store(&line)
	return w
}

// take puts p on the line, or loses it. It keeps no reference to p.
func (w *way) take(p []byte, now time.Time) {
	l := w.line.Load()
	w.sent.Add(1)
	if l.Cut || l.Loss > 0 && w.random.Float64() < l.Loss {
		w.lost.Add(1)
		return
	}
	due := now
	if l.Rate > 0 {
		takes := time.Duration(len(p)) * 8 * time.Second / time.Duration(l.Rate)
		full := takes * time.Duration(l.queue())
		if w.free.Before(now) {
			w.free = now
		}
		if w.free.Sub(now) > full {
			w.lost.Add(1)
			return
		}
		w.free = w.free.Add(takes)
		due = w.free
	}
	b := *w.pool.Get().(*[]byte)
	select {
	case w.flying <- packet{due.Add(l.Delay), b[:copy(b[:maxPacket], p)]}:
	default:
		w.lost.Add(1)
	}
}

func (l *Line) queue() int {
	if l.Queue > 0 {
		return l.Queue
	}
	return 1000
}

// give writes packets when they are due, in the order in which they were
// taken, until flying is closed.
func (w *way) give(write func([]byte) error) {
	for p := range w.flying {
		if wait := time.Until(p.due); wait > 0 {
			time.Sleep(wait)
		}
		if !w.line.Load().Cut {
			_ = write(p.data) // a device that is going down loses packets, as lines do
		}
		b := p.data[:maxPacket]
		w.pool.Put(&b)
	}
}

func (w *way) count() Count { return Count{w.sent.Load(), w.lost.Load()} }
