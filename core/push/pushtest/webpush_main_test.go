package pushtest_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push/pushtest"
)

var b64 = base64.RawURLEncoding

// appServer pushes to a simulated push service in whatever way a test wants.
type appServer struct {
	t      *testing.T
	sim    *pushtest.WebPush
	client *http.Client
	key    *ecdsa.PrivateKey
}

// withWebPush runs f with a simulator and an application server, in fake time.
func withWebPush(t *testing.T, cfg pushtest.WebPushConfig, f func(t *testing.T, a *appServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sim := pushtest.NewWebPush(cfg)
		client, stop := serve(t, sim)
		defer stop()
		f(t, &appServer{t: t, sim: sim, client: client, key: newVAPID(t)})
	})
}

func newVAPID(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicKey(t *testing.T, key *ecdsa.PrivateKey) string {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b64.EncodeToString(point)
}

// subscribe makes a subscription that is bound to the application server.
func (a *appServer) subscribe() pushtest.Subscription {
	a.t.Helper()
	sub, err := a.sim.NewSubscription(publicKey(a.t, a.key))
	if err != nil {
		a.t.Fatal(err)
	}
	return sub
}

// token is a VAPID token; vapid makes a right one.
type token struct {
	Alg string `json:"-"`
	Aud string `json:"aud,omitempty"`
	Exp int64  `json:"exp"`
	Sub string `json:"sub,omitempty"`
}

func (a *appServer) vapid(key *ecdsa.PrivateKey, change func(*token)) string {
	tok := token{Alg: "ES256", Aud: a.sim.URL(), Exp: time.Now().Add(12 * time.Hour).Unix(), Sub: "mailto:ops@example.com"}
	if change != nil {
		change(&tok)
	}
	head, _ := json.Marshal(map[string]string{"typ": "JWT", "alg": tok.Alg})
	body, _ := json.Marshal(tok)
	text := b64.EncodeToString(head) + "." + b64.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		a.t.Fatal(err)
	}
	sig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return "vapid t=" + text + "." + b64.EncodeToString(sig) + ", k=" + publicKey(a.t, key)
}

// webNote is a message; message makes a right one.
type webNote struct {
	method string
	url    string
	header http.Header
	body   []byte
}

func (a *appServer) message(sub pushtest.Subscription, plain string, change func(*webNote)) *webNote {
	n := &webNote{
		method: http.MethodPost, url: sub.Endpoint,
		header: http.Header{"Authorization": {a.vapid(a.key, nil)}, "Ttl": {"60"}, "Urgency": {"high"}},
	}
	if plain != "" {
		n.body = seal(a.t, sub, plain, len(plain)+1)
		n.header.Set("Content-Encoding", "aes128gcm")
	}
	if change != nil {
		change(n)
	}
	return n
}

func (a *appServer) try(n *webNote) (status int, header http.Header, body string, err error) {
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, n.method, n.url, strings.NewReader(string(n.body)))
	if err != nil {
		return 0, nil, "", err
	}
	req.Header = n.header
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(text), err
}

func (a *appServer) send(n *webNote) (status int, header http.Header, body string) {
	a.t.Helper()
	status, header, body, err := a.try(n)
	if err != nil {
		a.t.Fatal(err)
	}
	return status, header, body
}

// seal is RFC 8291 §3.4 in one record of size plain bytes with padding.
func seal(t *testing.T, sub pushtest.Subscription, plain string, size int) []byte {
	t.Helper()
	point, _ := b64.DecodeString(sub.P256dh)
	auth, _ := b64.DecodeString(sub.Auth)
	device, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		t.Fatal(err)
	}
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := own.ECDH(device)
	if err != nil {
		t.Fatal(err)
	}
	var salt [16]byte
	_, _ = rand.Read(salt[:])
	sender := own.PublicKey().Bytes()
	derive := func(secret, salt []byte, info string, n int) []byte {
		out, err := hkdf.Key(sha256.New, secret, salt, info, n)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	ikm := derive(secret, auth, fmt.Sprintf("WebPush: info\x00%s%s", point, sender), 32)
	block, err := aes.NewCipher(derive(ikm, salt[:], "Content-Encoding: aes128gcm\x00", 16))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	padded := make([]byte, size)
	copy(padded, plain+"\x02")
	out := append([]byte{}, salt[:]...)
	out = binary.BigEndian.AppendUint32(out, 4096)
	out = append(append(out, byte(len(sender))), sender...)
	return gcm.Seal(out, derive(ikm, salt[:], "Content-Encoding: nonce\x00", 12), padded, nil)
}

func (a *appServer) violated(want string) {
	a.t.Helper()
	for _, v := range a.sim.Violations() {
		if want != "" && strings.Contains(v, want) {
			return
		}
	}
	if want != "" || len(a.sim.Violations()) > 0 {
		a.t.Errorf("violations %q, want %q", a.sim.Violations(), want)
	}
}
