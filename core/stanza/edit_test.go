package stanza_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sallyport/core/stanza"
)

// cut returns the n-th element of a stream.
func cut(t *testing.T, text string, n int) *stanza.Element {
	t.Helper()
	c := stanza.New(stanza.Limits{})
	c.Feed([]byte(text))
	for {
		kind, e, err := c.Next()
		if err != nil || kind == stanza.NeedMore {
			t.Fatalf("%q: %v, %v", text, kind, err)
		}
		if n--; n < 0 {
			return e
		}
	}
}

func parse(t *testing.T, text string) *stanza.Element {
	t.Helper()
	e, err := stanza.Parse([]byte(text), stanza.Limits{})
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return e
}

func TestAChildIsPutBehindTheOthersAndNothingElseChanges(t *testing.T) {
	const delay = `<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>`
	for raw, want := range map[string]string{
		`<message><body>a</body></message>`:          `<message><body>a</body>` + delay + `</message>`,
		`<message to="a>b"/>`:                        `<message to="a>b">` + delay + `</message>`,
		`<c:message xmlns:c='jabber:client' />`:      `<c:message xmlns:c='jabber:client'>` + delay + `</c:message>`,
		`<message><![CDATA[</message>]]></message >`: `<message><![CDATA[</message>]]>` + delay + `</message >`,
		`<message></message>`:                        `<message>` + delay + `</message>`,
	} {
		if got := string(stanza.AppendChild([]byte("x"), []byte(raw), []byte(delay))); got != "x"+want {
			t.Errorf("%s\ngot  %s\nwant x%s", raw, got, want)
		}
	}
}

func TestAnAttributeIsSetReplacedAndTakenAway(t *testing.T) {
	for _, c := range []struct{ raw, name, value, want string }{
		{`<a/>`, "to", "b'&c", `<a to='b&apos;&amp;c'/>`},
		{`<a id="1" to = "x>" from='y'/>`, "to", "z", `<a id="1" to='z' from='y'/>`},
		{`<a id="1" to = "x>" from='y'/>`, "to", "", `<a id="1" from='y'/>`},
		{`<a tot='1' xto='2'>to='3'</a>`, "to", "", `<a tot='1' xto='2'>to='3'</a>`},
		{"<a b=' to=\"1\"'\n/>", "to", "2", "<a to='2' b=' to=\"1\"'\n/>"},
	} {
		if got := string(stanza.AppendWithAttr(nil, []byte(c.raw), c.name, c.value)); got != c.want {
			t.Errorf("%s %s=%q\ngot  %s\nwant %s", c.raw, c.name, c.value, got, c.want)
		}
	}
}

func TestChildrenAreKeptDroppedAndReplaced(t *testing.T) {
	e := cut(t, header+`<presence id='1'><show>dnd</show> <status>x</status><c xmlns='caps'/></presence>`, 1)
	got := string(e.AppendEdited(nil, func(ch *stanza.Child) []byte {
		switch string(ch.Local) {
		case "show":
			return []byte("<show>away</show>")
		case "c":
			return nil
		}
		return ch.Raw
	}))
	if want := `<presence id='1'><show>away</show> <status>x</status></presence>`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// XMPP B.4: prefixes declared on the stream's header are lost if a stanza is
// replayed on another stream.
func TestB4_WhatTheHeaderDeclaredIsDeclaredByWhatLeavesTheStream(t *testing.T) {
	const open = `<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' xmlns:q="it's">`
	for raw, want := range map[string]string{
		`<message><body>a</body></message>`:               `<message><body>a</body></message>`,
		`<message db:a='1'><body/></message>`:             `<message xmlns:db='jabber:server:dialback' db:a='1'><body/></message>`,
		`<iq><q:x/></iq>`:                                 `<iq xmlns:q="it's"><q:x/></iq>`,
		`<iq><q:x xmlns:q='own'/></iq>`:                   `<iq><q:x xmlns:q='own'/></iq>`,
		`<s:features/>`:                                   `<s:features xmlns:s='http://etherx.jabber.org/streams'/>`,
		`<db:verify xmlns:db='other'><db:x/></db:verify>`: `<db:verify xmlns:db='other'><db:x/></db:verify>`,
	} {
		if got := string(cut(t, open+raw, 1).AppendPortable(nil)); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", raw, got, want)
		}
	}
}

// An element whose Raw was replaced by its portable form can still be read and
// edited, and its portable form stays the same.
func TestAnElementIsMadePortableOnce(t *testing.T) {
	const open = `<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:x='urn:x'>`
	bare := cut(t, open+`<message><x:a/></message>`, 1)
	bare.Raw = bare.AppendPortable(nil)
	if again := bare.AppendPortable(nil); string(again) != `<message xmlns:x='urn:x'><x:a/></message>` {
		t.Errorf("got %s", again)
	}
	e := cut(t, open+`<message xmlns:y='urn:y'><x:a/><b><y:c/></b></message>`, 1)
	e.Raw = e.AppendPortable(nil)
	const want = `<message xmlns:x='urn:x' xmlns:y='urn:y'><x:a/><b><y:c/></b></message>`
	if again := e.AppendPortable(nil); string(again) != want {
		t.Errorf("got %s", again)
	}
	if without := e.AppendEdited(nil, func(ch *stanza.Child) []byte {
		if ch.Is("urn:x", "a") {
			return nil
		}
		return ch.Raw
	}); string(without) != `<message xmlns:x='urn:x' xmlns:y='urn:y'><b><y:c/></b></message>` {
		t.Errorf("edited: %s", without)
	}
	in, err := e.Inside(&e.Children[1])
	if err != nil || in.Child("urn:y", "c") == nil {
		t.Errorf("inside: %v, %v", in, err)
	}
}

// RFC 7395 §3.3.3.
func TestAFrameDeclaresItsNamespaces(t *testing.T) {
	for raw, want := range map[string]string{
		`<message><body>a</body></message>`:                 `<message xmlns='jabber:client'><body>a</body></message>`,
		`<message xmlns='jabber:client'/>`:                  `<message xmlns='jabber:client'/>`,
		`<r xmlns='urn:xmpp:sm:3'/>`:                        `<r xmlns='urn:xmpp:sm:3'/>`,
		`<message xml:lang='de' lang="xmlns='x'"/>`:         `<message xmlns='jabber:client' xml:lang='de' lang="xmlns='x'"/>`,
		`<stream:features><a xmlns='b'/></stream:features>`: `<stream:features xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><a xmlns='b'/></stream:features>`,
		`<iq><stream:x xmlns:stream='mine'/></iq>`:          `<iq xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><stream:x xmlns:stream='mine'/></iq>`,
	} {
		if got := string(stanza.AppendFrame(nil, []byte(raw))); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", raw, got, want)
		}
	}
}

func TestAWebSocketIsReadMessageByMessage(t *testing.T) {
	c := stanza.NewFrames(stanza.Limits{})
	next := func(text string) (stanza.Kind, *stanza.Element, error) {
		c.Feed([]byte(text))
		return c.Next()
	}
	for _, text := range []string{`<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a'/>`, `<message xmlns='jabber:client'/>`, `<message/>`, `<stream:error/>`} {
		kind, e, err := next(text)
		if err != nil || kind != stanza.Whole || string(e.Raw) != text {
			t.Fatalf("%s: %v, %v", text, kind, err)
		}
		if text == `<message/>` && string(e.Space) != stanza.NSClient {
			t.Errorf("a stanza without a namespace is of %q", e.Space)
		}
		if kind, _, err := c.Next(); kind != stanza.NeedMore || err != nil {
			t.Fatalf("behind %s: %v, %v", text, kind, err)
		}
	}
	for _, text := range []string{``, ` `, ` <a/>`, `<a/> `, `<a/><b/>`, `<a>`, `<?xml version='1.0'?><a/>`, `text`, `</a>`, `</>`, `<x:a/>`} {
		c = stanza.NewFrames(stanza.Limits{})
		if kind, _, err := next(text); err == nil {
			t.Errorf("%q was taken: %v", text, kind)
		}
	}
}

func TestAHeaderIsTranslatedBetweenTCPAndWebSocket(t *testing.T) {
	want := stanza.Stream{To: "example.com", From: "a'b@example.com", ID: `"<1>`, Version: "1.0", Lang: "de"}
	header := cut(t, string(want.AppendHeader(nil)), 0)
	if got, err := stanza.StreamOf(header); err != nil || got != want {
		t.Errorf("read %+v, %v from %s", got, err, header.Raw)
	}
	open := parse(t, string(want.AppendOpen(nil)))
	if got, err := stanza.StreamOf(open); err != nil || got != want {
		t.Errorf("read %+v, %v from %s", got, err, open.Raw)
	}
	if e := parse(t, stanza.FrameEnd); !e.Is(stanza.NSFraming, "close") {
		t.Errorf("%s", e.Raw)
	}
	for _, text := range []string{
		`<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>`,
		`<stream:stream xmlns:c='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`,
		`<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org'>`,
		`<stream xmlns='jabber:client'>`,
	} {
		if _, err := stanza.StreamOf(cut(t, text, 0)); !errors.Is(err, stanza.ErrNamespace) || stanza.Condition(err) != "invalid-namespace" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTextIsReadAndWritten(t *testing.T) {
	for raw, want := range map[string]string{
		`<body/>`:                           "",
		`<body>a &lt; b &amp;&#x41;</body>`: "a < b &A",
		`<body a='>'>x<![CDATA[<y>&amp;]]>z<i>t</i></body>`: "x<y>&amp;zt",
	} {
		if got := parse(t, raw).Text(1000); got != want {
			t.Errorf("%s: %q", raw, got)
		}
	}
	const long = `<body>äöü<![CDATA[äöü]]></body>`
	for most, want := range []string{"", "", "ä", "ä", "äö", "äö", "äöü", "äöü", "äöüä"} {
		if got := stanza.Text([]byte(long), most); got != want {
			t.Errorf("the first %d bytes are %q", most, got)
		}
	}
	const text = "a<b>&\"'\t\r\n]]>ü\x00\xff"
	written := append(stanza.AppendEscaped([]byte("<a b='"), text), "'>"...)
	written = append(stanza.AppendEscaped(written, text), "</a>"...)
	e := parse(t, string(written))
	if want := "a<b>&\"'\t\r\n]]>ü\uFFFD\uFFFD"; e.Text(100) != want || stanza.Unescape(e.Attr("b")) != want {
		t.Errorf("%q in %s", e.Text(100), written)
	}
}

// XMPP B.2, B.3.
func TestB2_FeaturesBetweenTheServerAndUsAreDropped(t *testing.T) {
	const mechanisms = `<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-1</mechanism>%s<mechanism>PLAIN</mechanism></mechanisms>`
	server := header + `<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>` +
		fmt.Sprintf(mechanisms, `<mechanism> external </mechanism>`) +
		`<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/><channel-binding type='tls-server-end-point'/></sasl-channel-binding>` +
		`<compression xmlns='http://jabber.org/features/compress'><method>zlib</method></compression><register xmlns='http://jabber.org/features/iq-register'/>` +
		`<auth xmlns='http://jabber.org/features/iq-auth'/><authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism></authentication>` +
		`<sm xmlns='urn:xmpp:sm:2'/><sm xmlns='urn:xmpp:sm:3'/><csi xmlns='urn:xmpp:csi:0'/><ver xmlns='urn:xmpp:features:rosterver'/></stream:features>`
	const rest, own = `<ver xmlns='urn:xmpp:features:rosterver'/>`, `<csi xmlns='urn:xmpp:csi:0'/>`
	for name, c := range map[string]struct {
		f    stanza.Features
		want string
	}{
		"no binding": {stanza.Features{Own: []byte(own)}, `<stream:features>` +
			`<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism></mechanisms>` + rest + own + `</stream:features>`},
		"the server's certificate": {stanza.Features{ChannelBinding: true}, `<stream:features>` + fmt.Sprintf(mechanisms, "") +
			`<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-server-end-point'/></sasl-channel-binding>` + rest + `</stream:features>`},
	} {
		got, err := stanza.AppendFeatures(nil, cut(t, server, 1), c.f)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, err, got, c.want)
		}
	}
	many := header + `<stream:features>` + strings.Repeat(`<x xmlns='y'/>`, 64) + `<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>`
	if _, err := stanza.AppendFeatures(nil, cut(t, many, 1), stanza.Features{}); !errors.Is(err, stanza.ErrTooDeep) {
		t.Errorf("65 features: %v", err)
	}
}

// FuzzEdit edits what was read, and reads it again.
func FuzzEdit(f *testing.F) {
	for _, s := range []string{
		`<a/>`, `<m to="x" id = '1'><body>1 &lt; 2</body></m>`, `<a><![CDATA[ </a> ]]></a >`, `<d:a d:b='>'><stream:c/></d:a>`,
		`<stream:a xmlns:stream='x'/>`, "<a\n/>", `<a id='é'><b xmlns='c'/></a>`,
	} {
		f.Add([]byte(s))
	}
	child := []byte(`<new xmlns='urn:new'/>`)
	f.Fuzz(func(t *testing.T, text []byte) {
		c := stanza.New(stanza.Limits{})
		c.Feed([]byte(`<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:d="d'">`))
		if _, _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
		c.Feed(text)
		kind, e, err := c.Next()
		if err != nil || kind != stanza.Whole || e.Unseen > 0 {
			return
		}
		e.Text(20)
		portable := e.AppendPortable(nil)
		if same := e.AppendEdited(nil, func(ch *stanza.Child) []byte { return ch.Raw }); !bytes.Equal(same, portable) {
			t.Fatalf("%q kept whole is %q", portable, same)
		}
		frame := stanza.AppendFrame(nil, stanza.AppendWithAttr(nil, stanza.AppendChild(nil, portable, child), "id", "n<w"))
		got, err := stanza.Parse(frame, stanza.Limits{})
		if err != nil {
			if errors.Is(err, stanza.ErrTooLong) || errors.Is(err, stanza.ErrTooDeep) {
				return
			}
			t.Fatalf("%q became %q: %v", e.Raw, frame, err)
		}
		if !bytes.Equal(got.Local, e.Local) || !bytes.Equal(got.Space, e.Space) || string(got.Attr("id")) != "n&lt;w" {
			t.Fatalf("%q became %q", e.Raw, frame)
		}
		if len(e.Children) < 64 && (len(got.Children) != len(e.Children)+1 || got.Child("urn:new", "new") == nil) {
			t.Fatalf("%q became %q", e.Raw, frame)
		}
		for i := range e.Children {
			if a, b := e.Children[i], got.Children[i]; !bytes.Equal(a.Raw, b.Raw) || !bytes.Equal(a.Space, b.Space) {
				t.Fatalf("child %q of %q became %q of %q", a.Raw, a.Space, b.Raw, b.Space)
			}
		}
	})
}
