package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

const (
	// attemptFor bounds an attempt, and the tidying up after it.
	attemptFor = 5 * time.Minute
	// maxAnswer bounds an authority's answer, in bytes.
	maxAnswer = 1 << 20
	// pollAtMost is the longest pause between two looks at an order, whatever
	// the authority asks for, so that a stop does not take long.
	pollAtMost = 3 * time.Second
	// maxComplaints and maxComplaint bound what is kept of an authority's words.
	maxComplaints, maxComplaint = 4, 300
	// errorSpace is the prefix of the types in RFC 8555 §6.7.
	errorSpace = "urn:ietf:params:acme:error:"
)

// attempt is one try to get a certificate, by an autocert.Manager of its own.
//
// The Manager's own renewal is not used: it says nothing when it fails, knows
// no Retry-After and cannot be stopped. It gets a certificate, and after that
// its connections are cut: what it may still want is refused without a word.
type attempt struct {
	// Static.
	ctx     context.Context // all requests end with it
	name    string
	store   store
	base    http.RoundTripper
	manager *autocert.Manager
	tokens  http.Handler // nil without HTTP-01

	// Guarded by mu.
	mu         sync.Mutex
	over       bool
	complaints []complaint
	retryAfter time.Duration
	unkept     error // why the certificate could not be stored
}

// complaint is what an authority, or the way to it, had to say.
type complaint struct {
	kind string // of RFC 8555 §6.7 without its prefix; "" when it was not reached
	text string
}

// failure is what became of an attempt that brought no certificate.
type failure struct {
	text, remedy string
	unreached    bool
	retryAfter   time.Duration
}

// fetch makes one attempt. It returns soon after ctx ended. unkept says why a
// certificate that was fetched could not be stored.
func (a *ACME) fetch(ctx context.Context) (cert *tls.Certificate, failed *failure, unkept error) {
	ctx, cancel := context.WithTimeout(ctx, attemptFor)
	at := &attempt{ctx: ctx, name: a.cfg.Name, store: a.store, base: a.cfg.Client.Transport}
	if at.base == nil {
		at.base = http.DefaultTransport
	}
	// Tidying up, which is giving back unused authorizations, goes on a while.
	context.AfterFunc(ctx, cancel)
	at.manager = &autocert.Manager{
		Prompt:      autocert.AcceptTOS,
		Cache:       at,
		HostPolicy:  autocert.HostWhitelist(a.cfg.Name),
		Email:       a.cfg.Email,
		RenewBefore: 10, // nanoseconds: at the certificate's end, when another is long in use
		Client: &acme.Client{
			DirectoryURL: a.cfg.Directory, UserAgent: a.cfg.UserAgent, RetryBackoff: backOff,
			HTTPClient: &http.Client{Transport: at, Timeout: a.cfg.Client.Timeout},
		},
	}
	if a.cfg.HTTP {
		at.tokens = at.manager.HTTPHandler(http.NotFoundHandler())
	}
	a.attempt.Store(at)
	defer a.attempt.Store(nil)
	cert, err := at.manager.GetCertificate(asClient(a.cfg.Name))
	at.mu.Lock()
	defer at.mu.Unlock()
	at.over = true
	if err != nil {
		return nil, at.failure(err, a.cfg), nil
	}
	return cert, nil, at.unkept
}

// asClient is a hello that asks for an ECDSA certificate.
func asClient(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:       name,
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedCurves:  []tls.CurveID{tls.CurveP256},
	}
}

// backOff is how long a request waits before it is sent again within an
// attempt: briefly after a stale nonce, little for a hiccup, and not at all
// when the authority asks for more patience than that. Zero gives up.
func backOff(n int, _ *http.Request, res *http.Response) time.Duration {
	switch {
	case res == nil || n > 5:
		return 0
	case res.StatusCode == http.StatusBadRequest: // a nonce that has been used
		return 50 * time.Millisecond << n
	case n > 2 || res.Header.Get("Retry-After") != "":
		return 0
	}
	return time.Second << n
}

// failure words what went wrong. The caller holds at.mu.
func (at *attempt) failure(err error, cfg ACMEConfig) *failure {
	if len(at.complaints) == 0 {
		at.complaints = append(at.complaints, complaint{"unknown", clip(err.Error())})
	}
	f := &failure{unreached: true, retryAfter: at.retryAfter}
	var texts []string
	for _, c := range at.complaints {
		texts = append(texts, c.text)
		if c.kind != "" {
			f.unreached = false
		}
	}
	f.text = strings.Join(texts, "; ")
	last := at.complaints[len(at.complaints)-1]
	f.remedy = remedies[last.kind]
	if f.remedy == "" {
		f.remedy = remedies["unknown"]
	}
	host := cfg.Directory
	if u, err := url.Parse(cfg.Directory); err == nil {
		host = u.Host
	}
	f.remedy = strings.NewReplacer("AUTHORITY", host, "NAME", cfg.Name).Replace(f.remedy)
	return f
}

// remedies says what to do about each kind of complaint.
var remedies = map[string]string{
	"":                      "let this host reach AUTHORITY by HTTPS (through HTTPS_PROXY where there is a proxy); it is tried again by itself",
	"dns":                   "give NAME an A or AAAA record that leads to this edge, seen from the internet",
	"connection":            "let the internet reach this edge at NAME on TCP 443 (or on TCP 80 with public.http)",
	"tls":                   "let TCP 443 of NAME lead to public.https of this edge, with nothing between that ends TLS",
	"unauthorized":          "let NAME lead to this edge and no other server, and its port 443 to public.https",
	"incorrectResponse":     "let NAME lead to this edge and no other server, and its port 443 to public.https",
	"caa":                   "let the CAA record of NAME allow this authority, or name another in tls.acme_directory",
	"rejectedIdentifier":    "the authority certifies no such name: correct public.hostname, or use tls.cert and tls.key",
	"unsupportedIdentifier": "the authority certifies no such name: correct public.hostname, or use tls.cert and tls.key",
	"rateLimited":           "none but time: it is tried again when the authority allows",
	"invalidContact":        "correct tls.acme_email",
	"unsupportedContact":    "correct tls.acme_email",
	"unknown":               "look up what the authority says; SIGHUP tries again at once",
}

// RoundTrip asks the authority and listens to what it says.
func (at *attempt) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := at.ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	defer context.AfterFunc(at.ctx, cancel)()
	res, err := at.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		at.complain(complaint{text: clip(fmt.Sprintf("%s was not reached: %v", req.URL.Host, err))})
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	_ = res.Body.Close()
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	if err != nil {
		at.complain(complaint{text: clip(fmt.Sprintf("%s: %v", req.URL.Host, err))})
		return nil, err
	}
	at.hear(req.URL.Host, res, body)
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// answer is what an authority's JSON may say that is of interest here.
type answer struct {
	problem             // of an HTTP error
	Status     string   `json:"status"`
	Error      *problem `json:"error"`
	Challenges []struct {
		Type  string   `json:"type"`
		Error *problem `json:"error"`
	} `json:"challenges"`
}

// problem is RFC 7807's document, as RFC 8555 §6.7 uses it.
type problem struct {
	Type   string `json:"type"`
	Detail string `json:"detail"`
}

func (p problem) complaint(about string) complaint {
	kind := strings.TrimPrefix(p.Type, errorSpace)
	if kind == "" {
		kind = "unknown"
	}
	return complaint{kind, clip(about + ": " + p.Detail + " (" + kind + ")")}
}

// hear learns from an answer, and takes from it a wish that is too long.
func (at *attempt) hear(host string, res *http.Response, body []byte) {
	var said answer
	// The status of an error is a number there; what does not parse is no complaint.
	_ = json.Unmarshal(body, &said)
	after := retryAfter(res.Header.Get("Retry-After"))
	switch {
	case res.StatusCode >= 400 && said.Type == errorSpace+"badNonce":
	case res.StatusCode >= 400 && said.Type != "":
		at.complain(said.complaint(host))
		at.wish(after)
	case res.StatusCode >= 400:
		at.complain(complaint{text: clip(host + ": HTTP " + res.Status)})
		at.wish(after)
	case said.Status == acme.StatusInvalid:
		for _, c := range said.Challenges {
			if c.Error != nil {
				at.complain(c.Error.complaint(c.Type))
			}
		}
		if said.Error != nil && len(said.Challenges) == 0 {
			at.complain(said.Error.complaint("order"))
		}
	case after > pollAtMost:
		res.Header.Set("Retry-After", strconv.Itoa(int(pollAtMost/time.Second)))
	}
}

func (at *attempt) wish(after time.Duration) {
	at.mu.Lock()
	defer at.mu.Unlock()
	at.retryAfter = max(at.retryAfter, after)
}

func (at *attempt) complain(c complaint) {
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.over || at.ctx.Err() != nil || len(at.complaints) == maxComplaints || slices.Contains(at.complaints, c) {
		return
	}
	at.complaints = append(at.complaints, c)
}

// retryAfter reads the header (RFC 9110 §10.2.3): seconds, or a date.
func retryAfter(v string) time.Duration {
	if n, err := strconv.ParseInt(v, 10, 32); err == nil {
		return max(0, time.Duration(n)*time.Second)
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

// clip makes a stranger's text fit for a log: short, and of one line.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	if len(s) <= maxComplaint {
		return s
	}
	return strings.ToValidUTF8(s[:maxComplaint], "") + "…"
}
