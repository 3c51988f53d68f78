package c2s

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errAgain: nothing is there to read now. It is the kind of error after which
// crypto/tls reads on.
var errAgain error = again{}

type again struct{}

func (again) Error() string   { return "nothing to read yet" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

// wire is a socket whose Write never blocks, and whose Read does not either
// once the stream is open: whoever waits for bytes waits in wait, without a
// buffer. Under TLS it is what the TLS connection reads from and writes to.
type wire struct {
	net.Conn                 // the socket; its deadlines, addresses
	raw      syscall.RawConn // nil when it is no socket: then Read blocks
	most     int             // bytes of the queue
	patience time.Duration   // of a server that does not read

	eager bool // Read does not block; owned by the reader

	mu       sync.Mutex
	queue    []byte // what the socket did not take
	flushing bool   // a goroutine writes the queue
	ending   bool   // the socket is to be closed when the queue is empty
	err      error  // why the wire ended
}

func newWire(nc net.Conn, most int, patience time.Duration) *wire {
	w := &wire{Conn: nc, most: most, patience: patience}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			w.raw = raw
		}
	}
	return w
}

// Read reads what is there. When the wire is eager, nothing is errAgain.
func (w *wire) Read(p []byte) (n int, err error) {
	if !w.eager || w.raw == nil {
		return w.Conn.Read(p)
	}
	operr := w.raw.Read(func(fd uintptr) bool {
		n, err = readNow(int(fd), p)
		return true
	})
	return ended(n, err, operr)
}

// readPooled waits until there is something to read, takes a buffer for it, and
// hands over what it read. The buffer is the caller's to give back.
func (w *wire) readPooled() (buf *[]byte, n int, err error) {
	operr := w.raw.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*[]byte)
		n, err = readNow(int(fd), *buf)
		if errors.Is(err, errAgain) {
			buffers.Put(buf)
			buf = nil
			return false
		}
		return true
	})
	n, err = ended(n, err, operr)
	return buf, n, err
}

// wait returns when there is something to read, or the read deadline passed.
func (w *wire) wait() error {
	var err error
	operr := w.raw.Read(func(fd uintptr) bool {
		var peek [1]byte
		for {
			if _, _, err = unix.Recvfrom(int(fd), peek[:], unix.MSG_PEEK|unix.MSG_DONTWAIT); !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	return errors.Join(operr, err)
}

// readNow reads once without waiting.
func readNow(fd int, p []byte) (int, error) {
	for {
		switch n, err := unix.Read(fd, p); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, errAgain
		default:
			return n, err
		}
	}
}

// ended tells the end of a stream as io.Reader does.
func ended(n int, err, operr error) (int, error) {
	switch {
	case operr != nil:
		return 0, operr
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write takes p, or fails when more waits for the server than may. It keeps no
// reference to p.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return 0, w.err
	case w.ending:
		return 0, ErrClosed
	}
	rest := p
	if !w.flushing && w.raw != nil {
		n, err := w.writeNow(p)
		if err != nil {
			w.fail(err)
			return n, err
		}
		rest = p[n:]
	}
	if len(rest) == 0 {
		return len(p), nil
	}
	if len(w.queue)+len(rest) > w.most {
		w.fail(ErrSlow)
		return 0, ErrSlow
	}
	w.queue = append(w.queue, rest...)
	if !w.flushing {
		w.flushing = true
		go w.flush()
	}
	return len(p), nil
}

// writeNow writes what the socket takes at once.
func (w *wire) writeNow(p []byte) (n int, err error) {
	operr := w.raw.Write(func(fd uintptr) bool {
		for n < len(p) {
			var some int
			some, err = unix.Write(int(fd), p[n:])
			switch {
			case errors.Is(err, unix.EINTR):
				err = nil
			case errors.Is(err, unix.EAGAIN):
				err = nil
				return true
			case err != nil:
				return true
			default:
				n += some
			}
		}
		return true
	})
	return n, errors.Join(operr, err)
}

// maxChunk is what is written at a time.
const maxChunk = 64 << 10

// farewellWrite is how long a wire that is to end may still take to write what
// waits: servers do not like half a stanza.
const farewellWrite = 2 * time.Second

// flush writes the queue until it is empty.
func (w *wire) flush() {
	for {
		w.mu.Lock()
		if w.err != nil || len(w.queue) == 0 {
			w.flushing, w.queue = false, nil
			if w.ending && w.err == nil {
				w.fail(ErrClosed)
			}
			w.mu.Unlock()
			return
		}
		chunk := w.queue[:min(len(w.queue), maxChunk)]
		if !w.ending {
			_ = w.SetWriteDeadline(time.Now().Add(w.patience))
		}
		w.mu.Unlock()
		n, err := w.Conn.Write(chunk)
		w.mu.Lock()
		w.queue = w.queue[n:]
		w.written(n, err)
		w.mu.Unlock()
	}
}

// written takes the outcome of a write: a server that takes anything at all
// lives, however slow it is. It needs mu.
func (w *wire) written(n int, err error) {
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		if n > 0 && !w.ending {
			return
		}
		err = ErrSlow
	}
	if err != nil {
		w.fail(err)
	}
	if w.err == nil && !w.ending && len(w.queue) == 0 {
		_ = w.SetWriteDeadline(time.Time{})
	}
}

// waiting is how many bytes the socket did not take yet.
func (w *wire) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)
}

// fail ends the wire for a reason; the first one counts. It needs mu.
func (w *wire) fail(why error) {
	if w.err == nil {
		w.err = why
		w.Conn.Close()
	}
}

// end closes the socket for a reason.
func (w *wire) end(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail(why)
}

// finish closes the socket once what waits is written, or soon.
func (w *wire) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ending:
	case w.flushing:
		w.ending = true
		_ = w.SetWriteDeadline(time.Now().Add(farewellWrite))
	default:
		w.fail(ErrClosed)
	}
}

// why is the reason for which the wire ended, or err when it did not.
func (w *wire) why(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	return err
}

// Close implements net.Conn.
func (w *wire) Close() error {
	w.end(ErrClosed)
	return nil
}
