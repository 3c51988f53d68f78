package pushtest

import (
	"encoding/json"
	"fmt"
	"mime"
	"net"
	"net/http"
	"time"
)

// maxControl bounds the body of a request to the control API.
const maxControl = 64 << 10

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
//	GET  /violations  what Apple would not have liked
//	POST /tokens      {"token": "…", "topic": "…", "env": "…", "unregistered": "…", "expired": bool}
//	POST /faults      a Fault, and {"latency": "1s"}, {"action": "black_hole"}, "goaway",
//	                  "disconnect", "reset" or "clear"
//
// A body is JSON and says so. Requests from web pages are refused by that, and
// by a Host that is no address and not localhost.
func (s *APNs) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pushes", s.getPushes)
	mux.HandleFunc("GET /violations", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, append([]string{}, s.Violations()...)) })
	mux.HandleFunc("POST /tokens", s.postToken)
	mux.HandleFunc("POST /faults", s.postFault)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !localHost(r.Host) {
			http.Error(w, fmt.Sprintf("Host %q: use an IP address or localhost", r.Host), http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func localHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return host == "localhost" || net.ParseIP(host) != nil
}

func (s *APNs) getPushes(w http.ResponseWriter, _ *http.Request) {
	shown := []shownPush{}
	for _, p := range s.Pushes() {
		shown = append(shown, shownPush{
			At: p.At, Token: tail(p.Token), Topic: p.Topic, PushType: p.PushType, ID: p.ID,
			Priority: p.Priority, Expiration: p.Expiration, CollapseID: p.CollapseID,
			Bytes: len(p.Payload), Status: p.Status, Reason: p.Reason, Connection: p.Conn,
		})
	}
	writeJSON(w, shown)
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

// actions are the faults that happen at once rather than to later pushes.
var actions = map[string]func(*APNs){
	"black_hole": (*APNs).BlackHole,
	"goaway":     func(s *APNs) { s.GoAway("Shutdown") },
	"disconnect": (*APNs).Disconnect,
	"reset":      (*APNs).ResetStreams,
	"clear":      (*APNs).ClearFaults,
}

func (s *APNs) postFault(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Fault
		Latency *string `json:"latency"`
		Action  string  `json:"action"`
	}
	if !readJSON(w, r, &in) {
		return
	}
	if in.Latency != nil {
		d, err := time.ParseDuration(*in.Latency)
		if err != nil || d < 0 {
			http.Error(w, fmt.Sprintf("latency: must be a duration such as 50ms (got %q)", *in.Latency), http.StatusBadRequest)
			return
		}
		s.SetLatency(d)
	}
	if in.Action != "" {
		act, ok := actions[in.Action]
		if !ok {
			http.Error(w, fmt.Sprintf("action: must be black_hole, goaway, disconnect, reset or clear (got %q)", in.Action), http.StatusBadRequest)
			return
		}
		act(s)
	}
	if in.Status != 0 && (in.Status < 200 || in.Status > 599) {
		http.Error(w, fmt.Sprintf("status: must be from 200 to 599 (got %d)", in.Status), http.StatusBadRequest)
		return
	}
	if in.Status != 0 || in.HTML || in.Reset || in.Drop {
		s.Inject(in.Fault)
	}
	w.WriteHeader(http.StatusNoContent)
}

func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		http.Error(w, "Content-Type must be application/json", http.StatusUnsupportedMediaType)
		return false
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControl))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone if this fails
}
