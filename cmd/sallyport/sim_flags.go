package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// simFaults are the flags by which each simulator can be made to fail.
type simFaults struct {
	Latency         time.Duration `help:"Delay each answer by this much."`
	HandshakeDelay  time.Duration `help:"Delay each TLS handshake by this much."`
	BlackHoleAfter  int           `placeholder:"N" help:"After so many accepted pushes, let the connections fall silent."`
	GoawayAfter     int           `placeholder:"N" help:"After so many accepted pushes, tell the connections to end."`
	DisconnectAfter int           `placeholder:"N" help:"After so many accepted pushes, close the connections without a word."`
	Status          int           `placeholder:"CODE" help:"Answer right pushes with this HTTP status."`
	Reason          string        `help:"The reason beside --status."`
	Every           int           `default:"1" placeholder:"N" help:"Only each Nth push gets --status."`
	FaultCount      int           `placeholder:"N" help:"Only so many pushes get --status; 0: all."`
}

// Validate is kong's: it reports flags that make no sense.
func (f *simFaults) Validate() error {
	switch {
	case f.Latency < 0 || f.HandshakeDelay < 0:
		return errors.New("--latency, --handshake-delay: must not be negative")
	case f.BlackHoleAfter < 0 || f.GoawayAfter < 0 || f.DisconnectAfter < 0:
		return errors.New("--black-hole-after, --goaway-after, --disconnect-after: must not be negative")
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("--status: must be from 200 to 599 (got %d)", f.Status)
	case f.Every < 1 || f.FaultCount < 0:
		return fmt.Errorf("--every must be 1 or more (got %d), and --fault-count 0 or more (got %d)", f.Every, f.FaultCount)
	}
	return nil
}

// count is --fault-count as a Fault has it.
func (f *simFaults) count() int {
	if f.FaultCount == 0 {
		return -1
	}
	return f.FaultCount
}

// after are the actions that wait for pushes, by their names in the control
// APIs.
func (f *simFaults) after() map[string]int {
	return map[string]int{"black_hole": f.BlackHoleAfter, "goaway": f.GoawayAfter, "disconnect": f.DisconnectAfter}
}

// serveControl serves a simulator's control API until ctx ends.
func serveControl(ctx context.Context, l net.Listener, name string, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("%s: control API: %w", name, err)
	}
	return nil
}
