package flow_test

import (
	"testing"
	"testing/synctest"

	"sallyport/edge/flow"
)

// A message in pieces is written piece by piece, each is told as written, and
// no answer to a keep-alive stands within it.
func TestPiecesAreWrittenInTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, f, l, d := begin(config(), flow.SIPTLS)
		f.Send([]byte("whole"))
		f.SendPart([]byte("one"))
		f.SendPart([]byte("two"))
		synctest.Wait()
		l.recv.KeepAlive()
		synctest.Wait()
		f.Send([]byte("last"))
		for _, want := range []string{"whole", "part one", "part two", "last", "pong"} {
			if got := <-l.wrote; got != want {
				t.Errorf("wrote %q, want %q", got, want)
			}
		}
		synctest.Wait()
		d.expect(t, "0s written 5", "0s written 3", "0s written 3", "0s written 4")
		f.End(1, "")
		synctest.Wait()
	})
}
