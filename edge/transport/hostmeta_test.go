package transport_test

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"sallyport/edge/transport"
)

const rel = "urn:xmpp:alt-connections:websocket"

// XEP-0156 §3: who asks a host gets the WebSocket at that host, in either form.
func TestXEP0156_HostMetaLeadsToTheWebSocketOfTheHostAsked(t *testing.T) {
	for _, host := range []string{"example.com", "chat.example.com:8443", "192.0.2.7", "[2001:db8::7]:443", "[2001:db8::7]", "xn--bcher-kva.example."} {
		synctest.Test(t, func(t *testing.T) {
			want := "wss://" + host + "/ws"
			var xrd struct {
				XMLName xml.Name `xml:"http://docs.oasis-open.org/ns/xri/xrd-1.0 XRD"`
				Links   []struct {
					Rel  string `xml:"rel,attr"`
					Href string `xml:"href,attr"`
				} `xml:"Link"`
			}
			body := told(t, "/.well-known/host-meta", host, "application/xrd+xml; charset=utf-8")
			if err := xml.Unmarshal([]byte(body), &xrd); err != nil || len(xrd.Links) != 1 || xrd.Links[0].Rel != rel || xrd.Links[0].Href != want {
				t.Errorf("%q: %v", body, err)
			}
			var jrd struct{ Links []struct{ Rel, Href string } }
			body = told(t, "/.well-known/host-meta.json", host, "application/json")
			if err := json.Unmarshal([]byte(body), &jrd); err != nil || len(jrd.Links) != 1 || jrd.Links[0].Rel != rel || jrd.Links[0].Href != want {
				t.Errorf("%q: %v", body, err)
			}
		})
	}
}

// told asks for a page and returns it.
func told(t *testing.T, path, host, kind string) string {
	t.Helper()
	got, no := ask(t, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nOrigin: https://any.example\r\n\r\n", upgrade(), false)
	head, body, _ := strings.Cut(got, "\r\n\r\n")
	if no == nil || no.Why != transport.Told || !strings.HasPrefix(head, "HTTP/1.1 200 ") ||
		!strings.Contains(head, "\r\nAccess-Control-Allow-Origin: *\r\n") || !strings.Contains(head+"\r\n", "\r\nContent-Type: "+kind+"\r\n") {
		t.Fatalf("answer %q, %v", got, no)
	}
	return body
}

func TestHostMetaIsNotMadeOfAnything(t *testing.T) {
	for host, status := range map[string]string{
		"a'/><script>.example": "400", "example.com:x": "400", "example.com:99999": "400", "a..b": "400", "": "400",
		"[fe80::1%25eth0]:443": "400", "2001:db8::7": "400", "exämple.com": "400", strings.Repeat("a", 64) + ".com": "400",
	} {
		synctest.Test(t, func(t *testing.T) {
			got, no := ask(t, "GET /.well-known/host-meta HTTP/1.1\r\nHost: "+host+"\r\n\r\n", upgrade(), false)
			if no == nil || no.Why != transport.DeniedHTTP || !strings.HasPrefix(got, "HTTP/1.1 "+status) {
				t.Errorf("%q: answer %q, %v", host, got, no)
			}
		})
	}
}

func TestHostMetaNeedsGETAndXMPPInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, no := ask(t, "PUT /.well-known/host-meta HTTP/1.1\r\nHost: a.example\r\n\r\n", upgrade(), false)
		if no == nil || no.Status != http.StatusMethodNotAllowed || !strings.Contains(got, "\r\nAllow: GET\r\n") {
			t.Errorf("answer %q", got)
		}
		u := upgrade()
		u.Ready = func(p string) bool { return p == "sip" }
		got, no = ask(t, "GET /.well-known/host-meta.json HTTP/1.1\r\nHost: a.example\r\n\r\n", u, false)
		if no == nil || no.Why != transport.DeniedNotReady || no.Subprotocol != "xmpp" || !strings.Contains(got, "Retry-After: 7\r\n") {
			t.Errorf("answer %q, %+v", got, no)
		}
	})
}
