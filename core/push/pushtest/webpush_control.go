package pushtest

import (
	"net/http"
	"time"
)

// shownWebPush is a message as the control API shows it: no endpoint and no
// contents, sealed or not.
type shownWebPush struct {
	At         time.Time `json:"at"`
	Endpoint   string    `json:"endpoint"` // the end of it
	TTL        string    `json:"ttl"`      // as sent
	Urgency    string    `json:"urgency"`
	Topic      string    `json:"topic,omitempty"`
	Bytes      int       `json:"bytes"`
	Sealed     string    `json:"sealed,omitempty"` // why the body did not open
	Key        string    `json:"key,omitempty"`    // the application server's
	Subject    string    `json:"subject,omitempty"`
	Status     int       `json:"status"`
	Reason     string    `json:"reason,omitempty"`
	Connection int       `json:"connection"`
}

// Control is the HTTP API that steers the simulator from another process:
//
//	GET  /pushes         what was sent, oldest first, without endpoints and contents
//	GET  /violations     what the RFCs forbid
//	GET  /stats          {"connections", "open"}
//	POST /subscriptions  {"key": "…"}: a new one for that application server, "" for any; answered as a browser has it.
//	                     {"endpoint": "…", "gone": 410} ends one; {"endpoint": "…", "offline": bool}
//	POST /faults         a Fault, and {"latency": "1s"}, {"handshake_delay": "1s"}, {"action": "black_hole"}, "goaway",
//	                     "disconnect", "rotate_certificate" or "clear", {"after": 10}: when so many more are accepted
//
// A body is JSON and says so. Requests from web pages are refused by that, and
// by a Host that is no address and not localhost.
func (s *WebPush) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pushes", func(w http.ResponseWriter, _ *http.Request) {
		shown := []shownWebPush{}
		for _, m := range s.Pushes() {
			shown = append(shown, shownWebPush{
				At: m.At, Endpoint: tail(m.Endpoint), TTL: m.TTLText, Urgency: m.Urgency, Topic: m.Topic, Bytes: len(m.Body),
				Sealed: m.Sealed, Key: m.Key, Subject: m.Subject, Status: m.Status, Reason: m.Reason, Connection: m.Conn,
			})
		}
		writeJSON(w, shown)
	})
	mux.HandleFunc("GET /violations", s.getViolations)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		opened, open := s.Connections()
		writeJSON(w, map[string]int{"connections": opened, "open": open})
	})
	mux.HandleFunc("POST /subscriptions", s.postSubscription)
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) { postFault(w, r, s) })
	return guarded(mux)
}

func (s *WebPush) postSubscription(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Key      string `json:"key"`
		Endpoint string `json:"endpoint"`
		Gone     int    `json:"gone"`
		Offline  *bool  `json:"offline"`
	}
	if !readJSON(w, r, &in) {
		return
	}
	if in.Endpoint == "" {
		sub, err := s.NewSubscription(in.Key)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		writeJSON(w, sub)
		return
	}
	known := true
	switch in.Gone {
	case 0:
	case http.StatusNotFound, http.StatusGone:
		known = s.Unsubscribe(in.Endpoint, in.Gone)
	default:
		http.Error(w, "gone: must be 404 or 410", http.StatusBadRequest)
		return
	}
	if in.Offline != nil {
		known = known && s.SetOffline(in.Endpoint, *in.Offline)
	}
	if !known {
		http.Error(w, "endpoint: no such subscription", http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
