package transport_test

import (
	"testing"

	"sallyport/edge/transport"
)

// A ping that crosses our goodbye does not keep the client from hearing it: a
// connection that ends with bytes unread is reset, and takes the goodbye along.
func TestPingThatCrossesTheGoodbyeIsNoReasonToHangUp(t *testing.T) {
	each(t, []way{plain, sockets}, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browse(t, transport.Config{}, e)
		go conn.Close(transport.Leaving)
		if code := closeCode(b); code != 1012 {
			t.Errorf("closed with %d", code)
		}
		b.send(fin|opPing, "crossed")
		b.send(fin|opClose, "\x03\xe8")
		e.expect(t, "alive", "ended client-closed")
	})
}
