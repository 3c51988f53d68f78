package push

import (
	"testing"
	"time"
)

// A watch begins with all there is, and tells each core its own changes again.
func TestDoNotDisturbThatIsToldAgainIsNoChange(t *testing.T) {
	changes := 0
	q := &quiet{changed: func(string) { changes++ }}
	const aor = "sip:bob@example.com"
	key := dndKey(aor)
	d := DND{AOR: aor, Since: time.Now().UTC(), Until: time.Now().Add(time.Hour).UTC()}
	if err := q.set(aor, &d); err != nil {
		t.Fatal(err)
	}
	longer := d
	longer.Until = d.Until.Add(time.Hour)
	for i, step := range []struct {
		value []byte
		want  int
	}{{mustJSON(d), 1}, {mustJSON(d), 1}, {mustJSON(longer), 2}, {mustJSON(longer), 2}, {nil, 3}, {nil, 3}} {
		if err := q.take(key, step.value); err != nil || changes != step.want {
			t.Errorf("step %d: %d changes, want %d; %v", i, changes, step.want, err)
		}
	}
}
