package pushtest

import (
	"fmt"
	"net/http"
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
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) { postFault(w, r, s) })
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

// actions implements steered.
func (s *APNs) actions() map[string]func() {
	return map[string]func(){
		"black_hole":         s.BlackHole,
		"goaway":             func() { s.GoAway("Shutdown") },
		"disconnect":         s.Disconnect,
		"reset":              s.ResetStreams,
		"rotate_certificate": func() { _ = s.RotateCertificate() }, // without randomness the old one stays
		"clear":              s.ClearFaults,
	}
}
