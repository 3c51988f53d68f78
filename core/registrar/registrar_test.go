package registrar

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var testKeys = [][]byte{[]byte("the newest key, thirty-two bytes"), []byte("the older key of thirty-two byte")}

// town is a domain with alice, whose password is "secret".
func town(t testing.TB) *Registrar {
	t.Helper()
	path := usersFile(t, "")
	if err := AddUser(path, "demo.example", "alice", "secret"); err != nil {
		t.Fatal(err)
	}
	users, err := LoadUsers(path)
	if err != nil {
		t.Fatal(err)
	}
	return New("Demo.Example", users, testKeys)
}

// client answers challenges.
type client struct {
	user, password, uri, method string
	alg                         algorithm
	nonce                       string
	nc                          int
}

func alice(challenge string) client {
	c := client{user: "alice", password: "secret", uri: "sip:demo.example", method: "REGISTER", nc: 1, alg: md5Alg}
	c.nonce = between(challenge, `nonce="`, `"`)
	if strings.Contains(challenge, "SHA-256") {
		c.alg = sha256Alg
	}
	return c
}

func between(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, after)
	return s
}

func (c client) authorization() string {
	cred := credentials{user: c.user, realm: "demo.example", nonce: c.nonce, uri: c.uri, cnonce: "0a4f113b", qop: "auth",
		nc: fmt.Sprintf("%08x", c.nc), alg: c.alg}
	cred.response = cred.expected(c.alg.sum(c.user+":demo.example:"+c.password), c.method)
	return fmt.Sprintf(`Digest username="%s", realm="demo.example", nonce="%s", uri="%s", response="%s", algorithm=%s, cnonce="%s", qop=auth, nc=%s`,
		cred.user, cred.nonce, cred.uri, cred.response, cred.alg, cred.cnonce, cred.nc)
}

func (c client) verify(r *Registrar) error {
	user, err := r.Verify("REGISTER", "sip:demo.example", []string{c.authorization()})
	if (err == nil) != (user == c.user) {
		return fmt.Errorf("user %q with error %w", user, err)
	}
	return err
}

func TestRFC7616_3_9_1_Vectors(t *testing.T) {
	for alg, want := range map[algorithm]string{
		md5Alg:    "8ca523f5e9506fed4657c9700eebdbec",
		sha256Alg: "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
	} {
		c := credentials{nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc: "00000001", uri: "/dir/index.html",
			cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop: "auth", alg: alg}
		if got := c.expected(alg.sum("Mufasa:http-auth@example.org:Circle of Life"), "GET"); got != want {
			t.Errorf("%s: %s, want %s", alg, got, want)
		}
	}
}

func TestDA1_ChallengesAreSHA256ThenMD5WithQop(t *testing.T) {
	r := town(t)
	got := r.Challenge(false)
	if len(got) != 2 || !strings.Contains(got[0], "algorithm=SHA-256,") || !strings.Contains(got[1], "algorithm=MD5,") {
		t.Fatalf("%q", got)
	}
	for _, c := range got {
		if !strings.HasPrefix(c, `Digest realm="demo.example", nonce="`) || !strings.HasSuffix(c, `, qop="auth"`) || strings.Contains(c, "stale") {
			t.Error(c)
		}
	}
	for _, c := range r.Challenge(true) {
		if !strings.HasSuffix(c, ", stale=true") {
			t.Error(c)
		}
	}
	if r.Challenge(false)[0] == got[0] {
		t.Error("the same nonce again")
	}
}

func TestTheRightPasswordIsAccepted(t *testing.T) {
	r := town(t)
	for i := range algorithms {
		challenge := r.Challenge(false)[i]
		if err := alice(challenge).verify(r); err != nil {
			t.Errorf("%s: %v", challenge, err)
		}
	}
	if !r.Known("alice") || r.Known("bob") {
		t.Error("Known")
	}
}

func TestWrongUserIsLikeWrongPassword(t *testing.T) {
	r := town(t)
	for name, change := range map[string]func(*client){
		"password":           func(c *client) { c.password = "Secret" },
		"user":               func(c *client) { c.user = "mallory" },
		"user in other case": func(c *client) { c.user = "Alice" },
		"uri":                func(c *client) { c.uri = "sip:other.example" },
		"method":             func(c *client) { c.method = "INVITE" },
		"count":              func(c *client) { c.nc = math.MaxUint32 + 1 },
	} {
		c := alice(r.Challenge(false)[0])
		change(&c)
		if err := c.verify(r); !errors.Is(err, ErrWrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMalformedCredentialsAreWrong(t *testing.T) {
	r := town(t)
	good := alice(r.Challenge(false)[0]).authorization()
	for _, change := range [][2]string{
		{"qop=auth", "qop=auth-int"}, {", qop=auth", ""}, {`, cnonce="0a4f113b"`, ""}, {"nc=00000001", "nc=1"}, {"nc=00000001", "nc=+0000001"},
		{"algorithm=SHA-256", "algorithm=SHA-512-256"}, {"algorithm=SHA-256, ", ""}, {"response=", "reply="}, {`username="alice"`, `username=""`},
		{"Digest ", "Digest realm=x, "}, {`"demo.example"`, `"demo.example`}, {`uri="sip:demo.example"`, `uri=""`},
		{"Digest ", "Digest " + strings.Repeat("x=y,", 2000)},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%q is not there", change[0])
		}
		if _, err := r.Verify("REGISTER", "sip:demo.example", []string{bad}); !errors.Is(err, ErrWrong) {
			t.Errorf("%s: %v", bad[:min(len(bad), 300)], err)
		}
	}
	if _, err := r.Verify("REGISTER", "sip:demo.example", []string{good}); err != nil {
		t.Errorf("the good ones: %v", err)
	}
}

func TestOtherSchemesAndRealmsArePassedOver(t *testing.T) {
	r := town(t)
	if _, err := r.Verify("REGISTER", "sip:demo.example", nil); !errors.Is(err, ErrNoCredentials) {
		t.Error(err)
	}
	others := []string{"Bearer abc", "NoOneKnowsThisScheme opaque-data=here", `Digest realm="pbx", username="alice", response="x"`, ""}
	if _, err := r.Verify("REGISTER", "sip:demo.example", others); !errors.Is(err, ErrNoCredentials) {
		t.Error(err)
	}
	user, err := r.Verify("REGISTER", "sip:demo.example", append(others, alice(r.Challenge(false)[0]).authorization()))
	if user != "alice" || err != nil {
		t.Errorf("%q, %v", user, err)
	}
}

func TestANonceLivesFiveMinutesThenTheClientMayTryAgain(t *testing.T) {
	r := town(t)
	synctest.Test(t, func(t *testing.T) {
		c := alice(r.Challenge(false)[0])
		time.Sleep(5 * time.Minute)
		if err := c.verify(r); err != nil {
			t.Errorf("after five minutes: %v", err)
		}
		time.Sleep(time.Second)
		c.nc++
		if err := c.verify(r); !errors.Is(err, ErrStale) {
			t.Errorf("later: %v", err)
		}
		c.password = "wrong"
		if err := c.verify(r); !errors.Is(err, ErrWrong) {
			t.Errorf("a wrong password with an old nonce: %v", err)
		}
	})
}

func TestCapturedCredentialsCannotBeUsedAgain(t *testing.T) {
	r := town(t)
	c := alice(r.Challenge(false)[0])
	for _, step := range []struct {
		nc   int
		want error
	}{{1, nil}, {1, ErrStale}, {5, nil}, {3, ErrStale}, {6, nil}} {
		c.nc = step.nc
		if err := c.verify(r); !errors.Is(err, step.want) {
			t.Errorf("nc %d: %v", step.nc, err)
		}
	}
}

func TestAnyCoreWithTheKeysTakesANonce(t *testing.T) {
	here, there := town(t), town(t)
	there.SetKeys([][]byte{testKeys[1]})
	if err := alice(there.Challenge(false)[0]).verify(here); err != nil {
		t.Errorf("the older key: %v", err)
	}
	if err := alice(here.Challenge(false)[0]).verify(there); !errors.Is(err, ErrStale) {
		t.Errorf("a key this core does not have: %v", err)
	}
	c := alice(here.Challenge(false)[0])
	c.nonce = "made-up"
	if err := c.verify(here); !errors.Is(err, ErrStale) {
		t.Errorf("the client's own nonce: %v", err)
	}
	other := New("other.example", here.users, testKeys)
	c.nonce = alice(other.Challenge(false)[0]).nonce
	if err := c.verify(here); !errors.Is(err, ErrStale) {
		t.Errorf("another domain's nonce: %v", err)
	}
}

func TestTheMemoryOfNoncesIsBoundedAndForgettingIsSafe(t *testing.T) {
	var c counts
	start := time.Unix(1000, 0)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * time.Millisecond) }
	for i := range maxNonces + 100 {
		if !c.use(fmt.Sprint(i), at(i), 1, at(i)) {
			t.Fatalf("nonce %d refused", i)
		}
	}
	if len(c.byKey) != maxNonces || c.order.Len() != maxNonces {
		t.Errorf("%d remembered", len(c.byKey))
	}
	if c.use("5", at(5), 2, at(maxNonces+100)) {
		t.Error("a forgotten nonce is taken again")
	}
	if !c.use("200", at(200), 2, at(maxNonces+100)) || c.use("200", at(200), 2, at(maxNonces+100)) {
		t.Error("a remembered nonce is not counted")
	}
}

func TestTheURIIsMatchedLoosely(t *testing.T) {
	for _, p := range [][2]string{
		{"sip:demo.example", "sip:Demo.Example"}, {"sip:demo.example", "sips:demo.example"}, {"sip:demo.example:5061", "sip:demo.example"},
		{"sip:demo.example;transport=tls", "sip:demo.example"}, {"sip:bob@demo.example", "sip:bob@demo.example:5060;user=phone?x=y"},
		{"sip:b;x=1@h", "sip:b;x=1@h;lr"},
	} {
		if !sameURI(p[0], p[1]) {
			t.Errorf("%q differ", p)
		}
	}
	for _, p := range [][2]string{{"sip:demo.example", "sip:demo.exampl"}, {"sip:a@h", "sip:b@h"}, {"sip:h", "sip:a@h"}, {"", "sip:h"}} {
		if sameURI(p[0], p[1]) {
			t.Errorf("%q are the same", p)
		}
	}
}

func TestAuthorizationIsReadInAnyForm(t *testing.T) {
	for in, want := range map[string]string{
		`digest USERNAME=alice,Realm="r",nonce=n`:                         "alice",
		`Digest username = "a\"l\\ice" , , realm="r"`:                     `a"l\ice`,
		`Digest username*=UTF-8''J%C3%A4s%C3%B8n%20Doe, userhash=false`:   "Jäsøn Doe",
		"Digest\tusername=x":                                              "",
		`Digest username="alice",response="ABCDEF",realm="a, b; realm=c"`: "alice",
	} {
		c, err := parseAuthorization(in)
		if want == "" {
			if err == nil {
				t.Errorf("%s: accepted", in)
			}
			continue
		}
		if err != nil || c.user != want {
			t.Errorf("%s: %+v, %v", in, c, err)
		}
	}
	for _, in := range []string{
		"Digest username", `Digest username="x`, `Digest username="x"y`, "Digest a=1,A=2", "Digest =x", `Digest a=b c`,
		`Digest username=x, username*=UTF-8''y`, `Digest username*=ISO-8859-1''y`, `Digest username*=UTF-8''%zz`,
	} {
		if c, err := parseAuthorization(in); err == nil {
			t.Errorf("%s: %+v", in, c)
		}
	}
}

func FuzzAuthorization(f *testing.F) {
	f.Add(`Digest username="alice", realm="demo.example", nonce="n", uri="sip:h", response="00", algorithm=MD5, cnonce="c", qop=auth, nc=00000001`)
	f.Add(`digest a="\",",b=c, ,`)
	f.Add("Bearer x")
	r := town(f)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := r.Verify("REGISTER", "sip:demo.example", []string{s}); err == nil {
			t.Fatalf("%q is accepted", s)
		}
		c, err := parseAuthorization(s)
		if err == nil && c.alg == "" {
			t.Error("no algorithm")
		}
		if err == nil && hex.EncodeToString([]byte(c.user)) == "" && c.user != "" {
			t.Error("user")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	r := town(b)
	c := alice(r.Challenge(false)[0])
	b.ReportAllocs()
	for b.Loop() {
		c.nc++
		if err := c.verify(r); err != nil {
			b.Fatal(err)
		}
	}
}
