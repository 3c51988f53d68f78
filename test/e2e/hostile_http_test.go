package e2e

import (
	"io"
	"strings"
	"testing"
	"time"
)

// TestHostileHTTPGetsOneAnswerAndTheConnectionEnds: what could make a proxy in
// front and the edge disagree where a request ends is refused, and nothing is
// ever served behind a refusal.
func TestHostileHTTPGetsOneAnswerAndTheConnectionEnds(t *testing.T) {
	ask := upgradeRequest("")
	second := "GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Smuggled: 1\r\n\r\n"
	without := func(header string) string {
		var kept strings.Builder
		for line := range strings.SplitAfterSeq(ask, "\r\n") {
			if !strings.HasPrefix(line, header+":") {
				kept.WriteString(line)
			}
		}
		return kept.String() + "\r\n"
	}
	swap := func(old, new string) string { return strings.Replace(ask, old, new, 1) + "\r\n" }
	cases := map[string]struct{ say, status string }{
		"a body by length":                    {ask + "Content-Length: 5\r\n\r\nhello", "400"},
		"a request within a body":             {ask + "Content-Length: 70\r\n\r\n" + second, "400"},
		"a chunked body":                      {ask + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, "400"},
		"both":                                {ask + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, "400"},
		"chunked twice":                       {ask + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		"a coding nobody knows":               {ask + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400"},
		"two lengths":                         {ask + "Content-Length: 0\r\nContent-Length: 4\r\n\r\nGET ", "400"},
		"a list of lengths":                   {ask + "Content-Length: 0, 4\r\n\r\nGET ", "400"},
		"a negative length":                   {ask + "Content-Length: -1\r\n\r\n", "400"},
		"NUL in a header":                     {ask + "X: a\x00b\r\n\r\n", "400"},
		"a bare CR in a header":               {ask + "X: a\rContent-Length: 4\r\n\r\nGET ", "400"},
		"a header without name":               {ask + ": x\r\n\r\n", "400"},
		"a header that is none":               {ask + "hello\r\n\r\n", "400"},
		"a space before a colon":              {ask + "Content-Length : 4\r\n\r\nGET ", "400"},
		"HTTP/9.9":                            {swap("HTTP/1.1", "HTTP/9.9"), "505"},
		"a Host with a path":                  {swap("Host: localhost", "Host: localhost/ws"), "400"},
		"no Host":                             {without("Host"), "400"},
		"two Hosts":                           {ask + "Host: elsewhere\r\n\r\n", "400"},
		"HTTP/1.0":                            {swap("HTTP/1.1", "HTTP/1.0"), "4"},
		"HTTP/2 by its preface":               {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
		"no HTTP: SIP":                        {options, "400"},
		"no HTTP: a TLS record":               {"\x16\x03\x01\x02\x00\x01\r\n\r\n", "400"},
		"no HTTP: 0xFF":                       {strings.Repeat("\xff", 300) + "\r\n\r\n", "400"},
		"two requests in one":                 {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + second, "404"},
		"a path that climbs":                  {swap("/ws", "/ws/../admin"), "404"},
		"a path that hides":                   {swap("/ws", "//ws"), "404"},
		"a path with a NUL":                   {swap("/ws", "/ws%00"), "404"},
		"a CONNECT":                           {swap("GET /ws", "CONNECT localhost:22"), "4"},
		"a TRACE":                             {swap("GET", "TRACE"), "405"},
		"a method of 10 kB":                   {swap("GET", strings.Repeat("G", 10_000)), "4"},
		"no key":                              {without("Sec-WebSocket-Key"), "400"},
		"a key of another length":             {swap("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), "400"},
		"a key that is no base64":             {swap("dGhlIHNhbXBsZSBub25jZQ==", "????????????????????????"), "400"},
		"two keys":                            {ask + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", "400"},
		"version 8":                           {swap("Version: 13", "Version: 8"), "4"},
		"no version":                          {without("Sec-WebSocket-Version"), "4"},
		"an Upgrade to h2c":                   {swap("Upgrade: websocket", "Upgrade: h2c"), "426"},
		"no Connection: Upgrade":              {without("Connection"), "4"},
		"another subprotocol":                 {swap("Protocol: sip", "Protocol: mqtt"), "400"},
		"a head of 20 kB":                     {upgradeRequest("X: "+strings.Repeat("y", 20_000)+"\r\n") + "\r\n", ""},
		"a head without end":                  {ask + strings.Repeat("Cookie: a=b\r\n", 5000), ""},
		"a request line without end":          {"GET /" + strings.Repeat("w", 70_000), ""},
		"frames before the request has ended": {ask + frame(frameFin|frameText, options) + "\r\n\r\n", "400"},
	}
	town := hurried(t)
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := town.dial(t, overText)
			w.write(tc.say)
			_ = w.conn.SetReadDeadline(time.Now().Add(wireLimit))
			all, err := io.ReadAll(w.r)
			answer := string(all)
			switch {
			case strings.Contains(answer, " 101 "):
				t.Errorf("it was let in: %q", answer)
			case tc.status == "" && (answer == "" || strings.HasPrefix(answer, "HTTP/1.1 4")):
			case err != nil && answer == "":
				t.Errorf("no answer: %v", err)
			case !strings.HasPrefix(answer, "HTTP/1.1 "+tc.status) || !strings.Contains(answer, "\r\nConnection: close\r\n"):
				t.Errorf("answered with %q, want %s and the end", answer, tc.status)
			}
			if strings.Count(answer, "HTTP/1.1 ") > 1 {
				t.Errorf("two answers: %q", answer)
			}
		})
	}
	town.plug(t, overText).alive(1)
}

// TestHTTPThatMayBeIsLetIn: what browsers and libraries do.
func TestHTTPThatMayBeIsLetIn(t *testing.T) {
	town := hurried(t)
	for name, say := range map[string]string{
		"names in any case":                 strings.ToLower(strings.Replace(upgradeRequest(""), "GET /ws HTTP/1.1\r\n", "", 1)),
		"other subprotocols beside":         strings.Replace(upgradeRequest(""), "Protocol: sip", "Protocol: xmpp, sip", 1),
		"Connection with a list":            strings.Replace(upgradeRequest(""), "Connection: Upgrade", "Connection: keep-alive, Upgrade", 1),
		"extensions, which are turned down": upgradeRequest("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit\r\n"),
		"cookies of 10 kB":                  upgradeRequest("Cookie: " + strings.Repeat("a=b; ", 2000) + "\r\n"),
		"a query":                           strings.Replace(upgradeRequest(""), "/ws", "/ws?token=%20", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "names in any case" {
				key := "dGhlIHNhbXBsZSBub25jZQ=="
				say = "GET /ws HTTP/1.1\r\n" + strings.Replace(say, strings.ToLower(key), key, 1)
			}
			w := town.dial(t, overText)
			w.write(say + "\r\n")
			head := w.httpHead()
			if !strings.HasPrefix(head, "HTTP/1.1 101 ") || strings.Contains(strings.ToLower(head), "extensions") {
				t.Fatalf("answered with %q", head)
			}
			w.alive(1)
		})
	}
}
