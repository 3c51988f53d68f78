package pushtest_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sallyport/core/push/pushtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bundle = "org.example.phone"

// provider pushes to a simulator in whatever way a test wants.
type provider struct {
	t      *testing.T
	sim    *pushtest.APNs
	listen *pushtest.Listener
	key    *ecdsa.PrivateKey
	kid    string
	team   string
	client *http.Client
}

// inBubble runs f with a simulator and a provider whose key it knows, in fake
// time.
func inBubble(t *testing.T, cfg pushtest.APNsConfig, f func(t *testing.T, p *provider)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sim := pushtest.NewAPNs(cfg)
		l := pushtest.NewListener()
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := sim.Serve(ctx, l); err != nil {
				t.Errorf("serve: %v", err)
			}
		})
		defer wg.Wait()
		defer cancel()
		<-sim.Ready()
		p := &provider{t: t, sim: sim, listen: l}
		p8, kid, team := sim.NewKey()
		p.use(p8, kid, team)
		p.reconnect()
		defer func() { p.client.CloseIdleConnections() }()
		f(t, p)
	})
}

func (p *provider) use(p8 []byte, kid, team string) {
	p.t.Helper()
	block, _ := pem.Decode(p8)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		p.t.Fatal(err)
	}
	p.key, p.kid, p.team = key.(*ecdsa.PrivateKey), kid, team
}

func (p *provider) tls() *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.sim.CA())
	return &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2"}}
}

// reconnect makes the next push open a connection.
func (p *provider) reconnect() {
	if p.client != nil {
		p.client.CloseIdleConnections()
	}
	p.client = &http.Client{Transport: &http.Transport{
		DialContext: p.listen.Dial, TLSClientConfig: p.tls(), ForceAttemptHTTP2: true,
	}}
}

// sign makes a provider token.
func (p *provider) sign(alg, kid, team string, iat time.Time) string {
	enc := base64.RawURLEncoding.EncodeToString
	text := enc(fmt.Appendf(nil, `{"alg":%q,"kid":%q}`, alg, kid)) + "." + enc(fmt.Appendf(nil, `{"iss":%q,"iat":%d}`, team, iat.Unix()))
	sum := sha256.Sum256([]byte(text))
	der, err := p.key.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		p.t.Fatal(err)
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		p.t.Fatal(err)
	}
	raw := append(sig.R.FillBytes(make([]byte, 32)), sig.S.FillBytes(make([]byte, 32))...)
	return text + "." + enc(raw)
}

// request is a push; its zero value with a token is right in every respect.
type request struct {
	method string
	path   string
	body   string
	header http.Header
}

// call is a right VoIP push to token, changed by change.
func (p *provider) call(token string, change func(*request)) *request {
	r := &request{
		method: http.MethodPost, path: "/3/device/" + token, body: `{"aps":{}}`,
		header: http.Header{
			"Authorization":   {"bearer " + p.sign("ES256", p.kid, p.team, time.Now().Truncate(30*time.Minute))},
			"Apns-Push-Type":  {"voip"},
			"Apns-Topic":      {bundle + ".voip"},
			"Apns-Expiration": {"0"},
			"Apns-Priority":   {"10"},
			"Apns-Id":         {"123e4567-e89b-12d3-a456-4266554400a0"},
		},
	}
	if change != nil {
		change(r)
	}
	return r
}

// answer is what came back.
type answer struct {
	status    int
	reason    string
	timestamp int64
	id        string
}

func (p *provider) send(r *request) answer {
	p.t.Helper()
	a, err := p.try(r)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

func (p *provider) try(r *request) (answer, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, "https://localhost"+r.path, strings.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	req.Header = r.header
	resp, err := p.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	var body struct {
		Reason    string
		Timestamp int64
	}
	_ = json.Unmarshal(text, &body) // a page is no JSON
	return answer{resp.StatusCode, body.Reason, body.Timestamp, resp.Header.Get("apns-id")}, nil
}

// want sends r and compares status and reason, "200" or "400 BadTopic".
func (p *provider) want(r *request, want string) {
	p.t.Helper()
	a := p.send(r)
	if got := strings.TrimSpace(fmt.Sprint(a.status, " ", a.reason)); got != want {
		p.t.Errorf("answered %q, want %q", got, want)
	}
}

// phone registers a token for calls.
func (p *provider) phone() string {
	token := pushtest.NewToken()
	p.sim.Register(token, pushtest.Device{Topic: bundle + ".voip"})
	return token
}
