package push_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
)

func TestHostsOfNoProxyAreReachedDirectly(t *testing.T) {
	f, err := push.ProxyFunc("http://user:secret@proxy.example.com:3128",
		[]string{"Push.Example.com", ".corp.example", "10.0.0.0/8", "192.0.2.7", "[2001:db8::1]"})
	if err != nil {
		t.Fatal(err)
	}
	for host, direct := range map[string]bool{
		"push.example.com": true, "PUSH.example.com.": true, "push.example.com:8443": true,
		"a.push.example.com": false, "xpush.example.com": false,
		"a.corp.example": true, "a.b.CORP.example:443": true, "corp.example": false, "acorp.example": false,
		"10.1.2.3:443": true, "11.1.2.3": false, "192.0.2.7": true, "192.0.2.8": false,
		"[2001:db8::1]:443": true, "[2001:db8::2]": false, "[::ffff:10.1.2.3]": true,
		"127.0.0.1": false, "localhost": false, // unlike the environment's NO_PROXY, nothing is implied
	} {
		u, err := f(httptest.NewRequest(http.MethodPost, "https://"+host+"/x", nil))
		if err != nil || (u == nil) != direct {
			t.Errorf("%s: proxy %v, %v; want direct %v", host, u, err, direct)
		}
		if u != nil && u.User.String() != "user:secret" {
			t.Errorf("%s: credentials %v", host, u.User)
		}
	}
}

func TestNoProxyIsNoFunction(t *testing.T) {
	if f, err := push.ProxyFunc("", []string{"x"}); f != nil || err != nil {
		t.Errorf("got a function, %v", err)
	}
}

func TestProxyErrorsNameTheKeyAndNotThePassword(t *testing.T) {
	for _, proxy := range []string{"proxy:3128", "socks5://u:secret@h:1", "http://", "http://u:secret@h:x y"} {
		_, err := push.ProxyFunc(proxy, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "push.proxy: ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", proxy, err)
		}
	}
	for _, entry := range []string{"", ".", "*", "http://x", "a b", "x:443", "10.0.0.0/33", "*.x"} {
		_, err := push.ProxyFunc("http://h:1", []string{entry})
		if err == nil || !strings.HasPrefix(err.Error(), "push.no_proxy: ") {
			t.Errorf("%q: %v", entry, err)
		}
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "30": 30 * time.Second, " 90 ": 90 * time.Second, "-5": 0, "soon": 0, "1.5": 0,
		"99999999999999999999":                            0,
		"9999999999999999":                                24 * time.Hour,
		now.Add(2 * time.Minute).Format(http.TimeFormat):  2 * time.Minute,
		now.Add(-2 * time.Minute).Format(http.TimeFormat): 0,
		now.Add(99 * time.Hour).Format(http.TimeFormat):   24 * time.Hour,
	} {
		if got := push.RetryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
