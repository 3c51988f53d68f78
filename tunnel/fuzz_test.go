package tunnel_test

import (
	"context"
	"io"
	"testing"
	"time"

	"sallyport/tunnel"
	"sallyport/tunnel/frame"
)

// TU-5: whatever a core says, on a first carrier and on one with which it
// claims to go on, an edge neither crashes nor hangs.
func FuzzTU5_CoreSaysAndResumes(f *testing.F) {
	f.Add([]byte{}, uint64(0), []byte{})
	f.Add(data(1, 10), uint64(60), data(1, 10))
	f.Add(frame.AppendUint64(nil, frame.TypeAck, 20), uint64(20), frame.AppendUint64(nil, frame.TypeAck, 1<<40))
	f.Add(frame.AppendUint32(nil, frame.TypeDrain, 0, 1), uint64(1<<63), frame.Append(nil, frame.TypeNarrow, 0, []byte{1}))
	f.Add(append(data(1, 7), 0, 0, 5, 2), uint64(0), append(data(1, 7), frame.AppendClose(nil, 1, 9, "x")...))
	f.Fuzz(func(t *testing.T, first []byte, rx uint64, second []byte) {
		r, a := newRoom(t), tunnel.NewAcceptor(edge("core1"))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		served := make(chan error, 1)
		go func() { served <- a.Serve(ctx, r) }()
		h := resuming(frame.RoleCore, "core1")
		said := func(h frame.Hello, b []byte) {
			c, err := r.dial(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			own, err := frame.AppendHello(nil, h)
			if err != nil {
				t.Fatal(err)
			}
			heard := make(chan struct{})
			go func() { defer close(heard); _, _ = io.Copy(io.Discard, c) }()
			_, _ = c.Write(own)
			if h.Resume {
				_, _ = c.Write(b)
			} else {
				for !a.Ready() { // the flow belongs to this session
					time.Sleep(50 * time.Microsecond)
				}
				_, _ = a.Open(sip(1), handler(func(f *tunnel.Flow, p []byte) { f.Consumed(len(p)) }))
				_, _ = c.Write(b)
			}
			_ = c.Close()
			<-heard
		}
		said(h, first)
		said(again(h, rx), second)
		cancel()
		select {
		case <-served:
		case <-time.After(20 * time.Second):
			t.Fatal("the edge does not end")
		}
	})
}
