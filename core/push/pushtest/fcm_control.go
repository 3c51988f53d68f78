package pushtest

import (
	"net/http"
	"time"
)

// shownFCM is a message as the control API shows it: no token and no contents.
type shownFCM struct {
	At           time.Time `json:"at"`
	Token        string    `json:"token"` // the end of it
	Name         string    `json:"name,omitempty"`
	Priority     string    `json:"priority"`
	TTL          string    `json:"ttl"` // as sent
	CollapseKey  string    `json:"collapse_key,omitempty"`
	ValidateOnly bool      `json:"validate_only,omitempty"`
	Keys         int       `json:"keys"` // in its data
	Bytes        int       `json:"bytes"`
	Status       int       `json:"status"`
	Reason       string    `json:"reason,omitempty"`
	Connection   int       `json:"connection"`
}

func showFCM(m FCMMessage) shownFCM {
	return shownFCM{
		At: m.At, Token: tail(m.Token), Name: m.Name, Priority: m.Priority, TTL: m.TTLText, CollapseKey: m.CollapseKey,
		ValidateOnly: m.ValidateOnly, Keys: len(m.Data), Bytes: len(m.Body), Status: m.Status, Reason: m.Reason, Connection: m.Conn,
	}
}

// shownDelivery is what an app received.
type shownDelivery struct {
	shownFCM
	Deprioritized bool `json:"deprioritized,omitempty"`
	Duplicate     bool `json:"duplicate,omitempty"`
	Deleted       bool `json:"deleted,omitempty"`
}

// Control is the HTTP API that steers the simulator from another process:
//
//	GET  /pushes      what was sent, oldest first, without tokens and contents
//	GET  /deliveries  ?token=…: of that, what reached the app
//	GET  /violations  what Google would not have liked
//	GET  /stats       {"connections", "open", "token_requests"}
//	POST /tokens      {"token": "…", "project": "…", "unregistered": bool, "last_seen": "…", "offline": bool, "doze": bool}
//	POST /shown       {"token": "…", "name": "…"}: the app showed something for that message
//	POST /faults      a Fault, and {"latency": "1s"}, {"handshake_delay": "1s"}, {"action": "black_hole"}, "goaway",
//	                  "disconnect", "rotate_certificate", "expire_tokens" or "clear", {"after": 10}: when so many more are accepted
//
// A body is JSON and says so. Requests from web pages are refused by that, and
// by a Host that is no address and not localhost.
func (s *FCM) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pushes", func(w http.ResponseWriter, _ *http.Request) {
		shown := []shownFCM{}
		for _, m := range s.Pushes() {
			shown = append(shown, showFCM(m))
		}
		writeJSON(w, shown)
	})
	mux.HandleFunc("GET /deliveries", func(w http.ResponseWriter, r *http.Request) {
		shown := []shownDelivery{}
		for _, d := range s.Delivered(r.URL.Query().Get("token")) {
			one := shownDelivery{showFCM(d.Message), d.Deprioritized, d.Duplicate, d.Deleted}
			one.At = d.At
			shown = append(shown, one)
		}
		writeJSON(w, shown)
	})
	mux.HandleFunc("GET /violations", s.getViolations)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		opened, open := s.Connections()
		writeJSON(w, map[string]int{"connections": opened, "open": open, "token_requests": s.TokenRequests()})
	})
	mux.HandleFunc("POST /tokens", s.postToken)
	mux.HandleFunc("POST /shown", s.postShown)
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) { postFault(w, r, s) })
	return guarded(mux)
}

func (s *web) getViolations(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, append([]string{}, s.Violations()...))
}

func (s *FCM) postToken(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token string `json:"token"`
		FCMApp
	}
	if !readJSON(w, r, &in) {
		return
	}
	if !wellFormedFCM(in.Token) {
		http.Error(w, "token: must be a registration token: 20 to 4096 letters, digits and - _ :", http.StatusBadRequest)
		return
	}
	s.Register(in.Token, in.FCMApp)
	w.WriteHeader(http.StatusNoContent)
}

func (s *FCM) postShown(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token string `json:"token"`
		Name  string `json:"name"`
	}
	if !readJSON(w, r, &in) {
		return
	}
	if !s.Show(in.Token, in.Name) {
		http.Error(w, "name: no such message of high priority came to this token within the last week", http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
