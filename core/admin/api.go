package admin

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxAOR bounds an address in a query, in bytes.
const maxAOR = 256

// api is the handler of admin.listen: the API, and the pages that are also on
// metrics_listen.
func (a *Admin) api() http.Handler {
	mux := http.NewServeMux()
	a.pages(mux)
	for pattern, page := range map[string]func(*http.Request) (any, error){
		"GET /api/v1/status":     a.status,
		"GET /api/v1/clients":    a.clients,
		"GET /api/v1/traces":     a.traces,
		"POST /api/v1/push/test": a.pushTest,
		"GET /api/v1/dnd":        a.dnd,
		"POST /api/v1/dnd":       a.setDND,
	} {
		mux.Handle(pattern, a.guarded(page))
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, r, refusal{http.StatusNotFound, "no such page: there are GET /api/v1/status, /api/v1/clients, /api/v1/traces, /api/v1/dnd and POST /api/v1/push/test, /api/v1/dnd"})
	})
	return mux
}

// pages adds what every monitoring tool wants: no token, no secret in it.
func (a *Admin) pages(mux *http.ServeMux) http.Handler {
	if a.gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(a.gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if a.ready() {
			plain(w, http.StatusOK, "ready")
		} else {
			plain(w, http.StatusServiceUnavailable, "not ready: no tunnel to an edge is up")
		}
	})
	return mux
}

func (a *Admin) ready() bool { return a.src.Ready == nil || a.src.Ready() }

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n")
}

// guarded makes a handler of a page: guard, ask, answer as JSON.
func (a *Admin) guarded(page func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := a.guard(r); err != nil {
			a.fail(w, r, err)
			return
		}
		v, err := page(r)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, v)
	})
}

func (a *Admin) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, text := statusOf(err)
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="sallyport"`)
	}
	a.log.Debug("request refused", "path", r.URL.Path, "status", status, "err", text)
	writeJSON(w, status, Fault{text})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client may have left; there is nobody to tell
}

// list is never nil, so that an empty one is [] in JSON.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

var errNoSource = refusal{http.StatusNotFound, "this core does not offer that"}

func (a *Admin) status(*http.Request) (any, error) {
	if a.src.Status == nil {
		return nil, errNoSource
	}
	s := a.src.Status()
	s.Ready = a.ready()
	s.Tunnels, s.Domains, s.Warnings = list(s.Tunnels), list(s.Domains), list(s.Warnings)
	s.Push.Apps = list(s.Push.Apps)
	for i := range s.Tunnels {
		s.Tunnels[i].Notices = list(s.Tunnels[i].Notices)
	}
	return s, nil
}

func (a *Admin) clients(r *http.Request) (any, error) {
	aor, err := aorOf(r.URL.Query().Get("aor"), true)
	if err != nil || a.src.Clients == nil {
		return nil, cmp.Or(err, error(errNoSource))
	}
	found := list(a.src.Clients(aor))
	for i := range found {
		found[i].Tokens = list(found[i].Tokens)
	}
	return found, nil
}

func (a *Admin) traces(r *http.Request) (any, error) {
	aor, err := aorOf(r.URL.Query().Get("aor"), true)
	if err != nil || a.src.Traces == nil {
		return nil, cmp.Or(err, error(errNoSource))
	}
	found := list(a.src.Traces(aor))
	for i := range found {
		found[i].Steps = list(found[i].Steps)
	}
	return found, nil
}

// readJSON takes exactly one object with known keys.
func readJSON(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, more := dec.Token(); errors.Is(more, io.EOF) {
			return nil
		}
		err = errors.New("more than one object")
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return refusal{http.StatusBadRequest, fmt.Sprintf("the body must be an object like {\"aor\": \"sip:alice@example.com\"}: %v", err)}
}

// aorOf reads an address as people write it: the scheme may be left out, and
// the host's case does not matter.
func aorOf(s string, orEmpty bool) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" && orEmpty {
		return "", nil
	}
	if !strings.Contains(s, ":") {
		s = "sip:" + s
	}
	scheme, rest, _ := strings.Cut(s, ":")
	at := strings.LastIndexByte(rest, '@')
	odd := strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
	if at < 1 || at == len(rest)-1 || len(s) > maxAOR || odd {
		return "", refusal{http.StatusBadRequest, fmt.Sprintf("aor: must be like sip:alice@example.com, of at most %d characters", maxAOR)}
	}
	return strings.ToLower(scheme) + ":" + rest[:at] + strings.ToLower(rest[at:]), nil
}
