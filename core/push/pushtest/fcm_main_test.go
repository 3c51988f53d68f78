package pushtest_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push/pushtest"
)

// serving is what the simulators have in common.
type serving interface {
	Serve(context.Context, net.Listener) error
	Ready() <-chan struct{}
	CA() []byte
}

// serve runs sim in a bubble until the returned function is called, and
// returns a client whose connections reach it.
func serve(t *testing.T, sim serving) (client *http.Client, stop func()) {
	t.Helper()
	l := pushtest.NewListener()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := sim.Serve(ctx, l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	<-sim.Ready()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(sim.CA())
	client = &http.Client{
		Transport: &http.Transport{
			DialContext: l.Dial, TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return client, func() {
		client.CloseIdleConnections()
		cancel()
		wg.Wait()
	}
}

// sender sends to a simulated FCM in whatever way a test wants.
type sender struct {
	t       *testing.T
	sim     *pushtest.FCM
	client  *http.Client
	account struct {
		Key   string `json:"private_key"`
		KeyID string `json:"private_key_id"`
		Email string `json:"client_email"`
		Token string `json:"token_uri"`
	}
	key    *rsa.PrivateKey
	access string
}

// withFCM runs f with a simulator and a sender that has an access token, in
// fake time.
func withFCM(t *testing.T, cfg pushtest.FCMConfig, f func(t *testing.T, p *sender)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sim := pushtest.NewFCM(cfg)
		client, stop := serve(t, sim)
		defer stop()
		p := &sender{t: t, sim: sim, client: client}
		text, err := sim.ServiceAccount()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &p.account); err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(p.account.Key))
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		p.key = key.(*rsa.PrivateKey)
		p.login()
		f(t, p)
	})
}

// claim is an assertion; assertion makes a right one.
type claim struct {
	Alg   string `json:"-"`
	Kid   string `json:"-"`
	Iss   string `json:"iss"`
	Scope string `json:"scope"`
	Aud   string `json:"aud"`
	Iat   int64  `json:"iat"`
	Exp   int64  `json:"exp"`
}

func (p *sender) assertion(change func(*claim)) string {
	now := time.Now()
	c := claim{
		Alg: "RS256", Kid: p.account.KeyID, Iss: p.account.Email, Aud: p.account.Token,
		Scope: "https://www.googleapis.com/auth/firebase.messaging", Iat: now.Unix(), Exp: now.Add(time.Hour).Unix(),
	}
	if change != nil {
		change(&c)
	}
	enc := base64.RawURLEncoding.EncodeToString
	head, _ := json.Marshal(map[string]string{"alg": c.Alg, "typ": "JWT", "kid": c.Kid})
	body, _ := json.Marshal(c)
	text := enc(head) + "." + enc(body)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, sum[:])
	if err != nil {
		p.t.Fatal(err)
	}
	return text + "." + enc(sig)
}

// grant asks for an access token.
func (p *sender) grant(grantType, assertion string) (token, fault string) {
	p.t.Helper()
	status, _, body := p.post(p.account.Token, "application/x-www-form-urlencoded",
		url.Values{"grant_type": {grantType}, "assertion": {assertion}}.Encode())
	var out struct {
		Token string `json:"access_token"`
		Type  string `json:"token_type"`
		Fault string `json:"error"`
		Life  int    `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		p.t.Fatalf("%d %s: %v", status, body, err)
	}
	if (status == http.StatusOK) != (out.Token != "" && out.Type == "Bearer" && out.Life > 0) {
		p.t.Errorf("status %d with %q", status, body)
	}
	return out.Token, out.Fault
}

const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

func (p *sender) login() {
	p.t.Helper()
	token, fault := p.grant(jwtBearer, p.assertion(nil))
	if token == "" {
		p.t.Fatal(fault)
	}
	p.access = token
}

func (p *sender) post(url, kind, body string) (int, http.Header, string) {
	p.t.Helper()
	status, header, text, err := p.try(url, kind, body)
	if err != nil {
		p.t.Fatal(err)
	}
	return status, header, text
}

func (p *sender) try(url, kind, body string) (int, http.Header, string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	req.Header.Set("Content-Type", kind)
	if p.access != "" {
		req.Header.Set("Authorization", "Bearer "+p.access)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(text), err
}

func (p *sender) path() string {
	return p.sim.URL() + "/v1/projects/" + pushtest.DefaultProject + "/messages:send"
}

// answers is what FCM says: status, google.rpc's status, FCM's error code and
// whether there are field violations.
type answers struct {
	status      int
	code        string
	reason      string
	badRequest  bool
	text        string
	contentType string
	header      http.Header
}

func (p *sender) send(body string) answers {
	p.t.Helper()
	status, header, text := p.post(p.path(), "application/json", body)
	return fcmAnswer(status, header, text)
}

func fcmAnswer(status int, header http.Header, text string) answers {
	a := answers{status: status, header: header, contentType: header.Get("Content-Type")}
	var in struct {
		Name  string
		Error struct {
			Message string
			Status  string
			Details []struct {
				Type            string           `json:"@type"`
				ErrorCode       string           `json:"errorCode"`
				FieldViolations []map[string]any `json:"fieldViolations"`
			}
		}
	}
	_ = json.Unmarshal([]byte(text), &in) // a page is no JSON
	a.code, a.text = in.Error.Status, in.Error.Message+in.Name
	for _, d := range in.Error.Details {
		a.reason += d.ErrorCode
		a.badRequest = a.badRequest || strings.HasSuffix(d.Type, ".BadRequest") && len(d.FieldViolations) > 0
	}
	return a
}

// call is the body of a right call to token, changed by pairs of old and new
// text.
func call(token string, change ...string) string {
	body := `{"message":{"token":"` + token + `","data":{"v":"1","event":"call"},"android":{"priority":"high","ttl":"0s"}}}`
	return strings.NewReplacer(change...).Replace(body)
}

// phone registers a token.
func (p *sender) phone(a pushtest.FCMApp) string {
	token := pushtest.NewFCMToken()
	p.sim.Register(token, a)
	return token
}

func (p *sender) violated(want string) {
	p.t.Helper()
	for _, v := range p.sim.Violations() {
		if want != "" && strings.Contains(v, want) {
			return
		}
	}
	if want != "" || len(p.sim.Violations()) > 0 {
		p.t.Errorf("violations %q, want %q", p.sim.Violations(), want)
	}
}
