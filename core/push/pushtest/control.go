package pushtest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// shownPush is a push as the control API shows it: no token, payload or
// credential.
type shownPush struct {
	At         time.Time `json:"at"`
	Token      string    `json:"token"` // the end of it
	Topic      string    `json:"topic"`
	PushType   string    `json:"push_type"`
	ID         string    `json:"id"`
	Priority   string    `json:"priority"`
	Expiration string    `json:"expiration"`
	CollapseID string    `json:"collapse_id"`
	Bytes      int       `json:"bytes"`
	Status     int       `json:"status"`
	Reason     string    `json:"reason,omitempty"`
	Connection int       `json:"connection"`
}

// Control is the HTTP API that steers the simulator from another process:
//
//	GET  /pushes      what was pushed, oldest first, without tokens and contents
//	GET  /deliveries  of them, what reached its device
//	GET  /violations  what Apple would not have liked
//	GET  /warnings    what Apple advises against
//	GET  /stats       Stats
//	POST /tokens      {"token": "…", "topic": "…", "env": "…", "unregistered": "…", "expired": bool, "offline": bool, "phone": "…"}
//	POST /calls       {"token": "…", "call": "UUID", "event": "reported"}, {"call": "UUID", "event": "finished"}
//	POST /faults      a Fault, and {"latency": "1s"}, {"handshake_delay": "1s"}, {"action": "black_hole"}, "goaway",
//	                  "disconnect", "reset", "rotate_certificate" or "clear", {"after": 10}: when so many more are accepted
//
// A body is JSON and says so. Requests from web pages are refused by that, and
// by a Host that is no address and not localhost.
func (s *APNs) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pushes", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, show(s.Pushes())) })
	mux.HandleFunc("GET /deliveries", s.getDeliveries)
	mux.HandleFunc("GET /violations", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, append([]string{}, s.Violations()...)) })
	mux.HandleFunc("GET /warnings", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, append([]string{}, s.Warnings()...)) })
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Stats()) })
	mux.HandleFunc("POST /tokens", s.postToken)
	mux.HandleFunc("POST /calls", s.postCall)
	mux.HandleFunc("POST /faults", s.postFault)
	return guarded(mux)
}

func show(pushes []Push) []shownPush {
	shown := []shownPush{}
	for _, p := range pushes {
		shown = append(shown, shownPush{
			At: p.At, Token: tail(p.Token), Topic: p.Topic, PushType: p.PushType, ID: p.ID,
			Priority: p.Priority, Expiration: p.Expiration, CollapseID: p.CollapseID,
			Bytes: len(p.Payload), Status: p.Status, Reason: p.Reason, Connection: p.Conn,
		})
	}
	return shown
}

func (s *APNs) getDeliveries(w http.ResponseWriter, _ *http.Request) {
	var pushes []Push
	for _, d := range s.Deliveries() {
		d.Push.At = d.At
		pushes = append(pushes, d.Push)
	}
	writeJSON(w, show(pushes))
}

func (s *APNs) postToken(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token string `json:"token"`
		Device
	}
	if !readJSON(w, r, &in) {
		return
	}
	if in.Token == "" {
		http.Error(w, "token: must be the device token in hexadecimal digits", http.StatusBadRequest)
		return
	}
	s.Register(in.Token, in.Device)
	w.WriteHeader(http.StatusNoContent)
}

func (s *APNs) postCall(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token string `json:"token"`
		Call  string `json:"call"`
		Event string `json:"event"`
	}
	if !readJSON(w, r, &in) {
		return
	}
	switch {
	case in.Event == "finished":
		s.FinishCall(in.Call)
	case in.Event != "reported":
		http.Error(w, fmt.Sprintf("event: must be reported or finished (got %q)", in.Event), http.StatusBadRequest)
		return
	case !s.Report(in.Token, in.Call):
		http.Error(w, "call: no such call was pushed to this token", http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// actions are the faults that happen at once rather than to later pushes.
var actions = map[string]func(*APNs){
	"black_hole":         (*APNs).BlackHole,
	"goaway":             func(s *APNs) { s.GoAway("Shutdown") },
	"disconnect":         (*APNs).Disconnect,
	"reset":              (*APNs).ResetStreams,
	"rotate_certificate": func(s *APNs) { _ = s.RotateCertificate() }, // without randomness the old one stays
	"clear":              (*APNs).ClearFaults,
}

// wanted is the body of POST /faults.
type wanted struct {
	Fault
	Latency   *string `json:"latency"`
	Handshake *string `json:"handshake_delay"`
	Action    string  `json:"action"`
	After     int     `json:"after"`
}

func (s *APNs) postFault(w http.ResponseWriter, r *http.Request) {
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
func (in *wanted) apply(s *APNs) error {
	latency, err := durationField("latency", in.Latency)
	if err != nil {
		return err
	}
	handshake, err := durationField("handshake_delay", in.Handshake)
	if err != nil {
		return err
	}
	act, known := actions[in.Action]
	switch {
	case in.Action != "" && !known:
		return fmt.Errorf("action: must be %s (got %q)", strings.Join(slices.Sorted(maps.Keys(actions)), ", "), in.Action)
	case in.After < 0 || in.After > 0 && !known:
		return fmt.Errorf("after: must be a number of pushes, beside an action (got %d)", in.After)
	case in.Status != 0 && (in.Status < 200 || in.Status > 599):
		return fmt.Errorf("status: must be from 200 to 599 (got %d)", in.Status)
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
		act(s)
	}
	if in.Status != 0 || in.HTML || in.Reset || in.Drop {
		s.Inject(in.Fault)
	}
	return nil
}
