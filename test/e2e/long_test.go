package e2e

import (
	"errors"
	"flag"
	"sync"
	"testing"
	"time"
)

// long lets those stories be told that take half a minute: `make hostile`.
var long = flag.Bool("long", false, "tell the long stories too")

// takesLong skips a story unless it was asked for.
func takesLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("takes long: make hostile")
	}
}

// TestLong_WhatBeginsMustEnd: a client that has spoken before, and a PBX, have
// 30 s for a message from its first byte to its last, however it trickles in.
func TestLong_WhatBeginsMustEnd(t *testing.T) {
	takesLong(t)
	t.Parallel()
	town := tortured(t)
	const whole = 30 * time.Second
	spoken := func(as carrier) *wire {
		w := town.plug(t, as)
		w.alive(1)
		return w
	}
	var all sync.WaitGroup // all at once, however few cores there are
	for name, tc := range map[string]struct {
		w     *wire
		begin string
		again string
	}{
		"a header over TLS":        {spoken(overTLS), "OPTIONS sip:localhost SIP/2.0\r\nX: ", "y"},
		"a body over TLS":          {spoken(overTLS), body(60_000)[:400], "b"},
		"fragments over WebSocket": {spoken(overText), frame(frameText, "OPTIONS "), frame(frameCont, "x")},
		"a frame over WebSocket":   {spoken(overText), frame(frameFin|frameText, body(60_000))[:400], "b"},
		"a body from the PBX":      {town.fromPBX(t), body(60_000)[:400], "b"},
		"pings within a message":   {spoken(overText), frame(frameText, "OPTIONS "), frame(frameFin|framePing, "x")},
	} {
		all.Go(func() {
			start := time.Now()
			tc.w.write(tc.begin)
			var err error
			for !errors.Is(err, errEnded) && time.Since(start) < whole+wireLimit {
				tc.w.write(tc.again)
				_, err = tc.w.hear(100 * time.Millisecond)
			}
			if took := time.Since(start); took < whole*9/10 || took > whole+wireLimit/2 {
				t.Errorf("%s ended after %v with %d, want %v: %v", name, took, tc.w.code, whole, err)
			}
		})
	}
	all.Wait()
}
