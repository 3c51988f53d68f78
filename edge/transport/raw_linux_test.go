package transport_test

import (
	"io"
	"testing"

	"sallyport/edge/transport"
)

// A client that sends a record for each byte costs its core no message for each:
// what is there goes together, and a byte weighs no hundred times its own.
func TestWhatIsThereGoesTogether(t *testing.T) {
	const n = 600
	e := newEar()
	e.hold = make(chan struct{})
	c, _ := sockets.raw(t, transport.Config{}, e)
	_, _ = io.WriteString(c, "<")
	e.expect(t, "message <")
	for range n {
		_, _ = io.WriteString(c, "x") // fits into the socket, and waits there
	}
	_ = c.Close()
	close(e.hold)
	pieces, all := 0, 0
	for heard := range e.heard {
		if heard == "ended client-closed" {
			break
		}
		pieces++
		all += len(heard) - len("message ")
	}
	if all != n || pieces > 3 {
		t.Errorf("%d bytes came in %d pieces", all, pieces)
	}
}
