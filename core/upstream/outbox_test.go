package upstream

import (
	"strings"
	"testing"
)

func TestWhatGathersLeavesTogetherAndWithinItsBound(t *testing.T) {
	o := newOutbox()
	long := strings.Repeat("x", minDatagram)
	p := []byte(long + "1")
	if !o.put(p, 1000) || !o.put([]byte("\r\n"), 1000) || !o.put([]byte(long+"2"), 1000) {
		t.Fatal("no room")
	}
	clear(p) // whoever sends may use its memory again
	bytes, msgs := o.take()
	if string(bytes) != long+"1\r\n"+long+"2" || msgs != 2 {
		t.Errorf("took %q, %d messages", bytes, msgs)
	}
	if o.put([]byte(long), len(bytes)) {
		t.Error("what is being written does not count")
	}
	o.written(bytes)
	if !o.put([]byte(long), len(bytes)) {
		t.Error("no room after all was written")
	}
	again, msgs := o.take()
	if string(again) != long || msgs != 1 || &again[0] != &bytes[0] {
		t.Errorf("took %q, %d messages, in new memory: %v", again, msgs, &again[0] != &bytes[0])
	}
	o.written(make([]byte, 0, keptSpare+1))
	if cap(o.spare) > keptSpare {
		t.Errorf("an empty outbox holds %d bytes", cap(o.spare))
	}
}
