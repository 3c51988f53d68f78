package pushtest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// steered is a simulator that a control API can make fail.
type steered interface {
	SetLatency(time.Duration)
	SetHandshakeDelay(time.Duration)
	Inject(Fault)
	After(n int, action string) bool
	// actions are the faults that happen at once rather than to later pushes.
	actions() map[string]func()
}

// wanted is the body of POST /faults.
type wanted struct {
	Fault
	Latency   *string `json:"latency"`
	Handshake *string `json:"handshake_delay"`
	Action    string  `json:"action"`
	After     int     `json:"after"`
}

func postFault(w http.ResponseWriter, r *http.Request, s steered) {
	var in wanted
	if !readJSON(w, r, &in) {
		return
	}
	if err := in.apply(s); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// apply checks all of it before it does any of it.
func (in *wanted) apply(s steered) error {
	latency, err := durationField("latency", in.Latency)
	if err != nil {
		return err
	}
	handshake, err := durationField("handshake_delay", in.Handshake)
	if err != nil {
		return err
	}
	actions := s.actions()
	act, known := actions[in.Action]
	switch {
	case in.Action != "" && !known:
		return fmt.Errorf("action: must be %s (got %q)", strings.Join(slices.Sorted(maps.Keys(actions)), ", "), in.Action)
	case in.After < 0 || in.After > 0 && !known:
		return fmt.Errorf("after: must be a number of pushes, beside an action (got %d)", in.After)
	case in.Status != 0 && (in.Status < 200 || in.Status > 599):
		return fmt.Errorf("status: must be from 200 to 599 (got %d)", in.Status)
	case in.RetryAfter < 0:
		return fmt.Errorf("retry_after: must be a number of seconds (got %d)", in.RetryAfter)
	}
	if in.Latency != nil {
		s.SetLatency(latency)
	}
	if in.Handshake != nil {
		s.SetHandshakeDelay(handshake)
	}
	switch {
	case in.After > 0:
		s.After(in.After, in.Action)
	case known:
		act()
	}
	if in.Status != 0 || in.HTML || in.Reset || in.Drop || in.Location != "" {
		s.Inject(in.Fault)
	}
	return nil
}
