package stanza_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sallyport/core/stanza"
)

const header = `<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='example.com' version='1.0'>`

// read cuts a stream that arrives in pieces and tells what was seen, a line
// each.
func read(pieces ...string) (seen []string, err error) {
	c := stanza.New(stanza.Limits{})
	for _, p := range pieces {
		own := []byte(p)
		c.Feed(own)
		for {
			kind, e, err := c.Next()
			if err != nil {
				return seen, err
			}
			if kind == stanza.NeedMore {
				break
			}
			seen = append(seen, show(kind, e))
		}
		for i := range own { // they were the caller's, who reads on into them
			own[i] = '!'
		}
	}
	return seen, nil
}

func show(kind stanza.Kind, e *stanza.Element) string {
	if kind == stanza.End {
		return kind.String()
	}
	out := fmt.Sprintf("%v {%s}%s", kind, e.Space, e.Local)
	for _, a := range e.Attrs {
		out += fmt.Sprintf(" %s|%s=%s", a.Prefix, a.Local, stanza.Unescape(a.Value))
	}
	for i := range e.Children {
		ch := &e.Children[i]
		out += fmt.Sprintf(" [{%s}%s %s]", ch.Space, ch.Local, ch.Raw)
	}
	return out + " " + string(e.Raw)
}

func pieces(s string, n int) (out []string) {
	for len(s) > n {
		out = append(out, s[:n])
		s = s[n:]
	}
	return append(out, s)
}

func TestAStreamIsCutWhereverItWasSplit(t *testing.T) {
	text := header + "\n" +
		`<message from='bob@example.com/x' type="chat" id='a&amp;&#x42;'><body>1 &lt; 2 ]] ü</body><x xmlns='jabber:x:oob'/></message> ` +
		"\r\n" + `<iq type='get' xml:lang='de'><p:ping xmlns:p='urn:xmpp:ping'><p:a></p:a></p:ping ></iq>` +
		`<r xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3' h='1>2'/><message><![CDATA[<x>]] ]>&]]]]></message>` +
		`</stream:stream>`
	want, err := read(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(want) != 7 || want[6] != "end" {
		t.Fatalf("saw %d things:\n%s", len(want), strings.Join(want, "\n"))
	}
	for n := 1; n < 40; n++ {
		got, err := read(pieces(text, n)...)
		if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("in pieces of %d: %v\n%s\nwant\n%s", n, err, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestNamesAttributesAndChildrenAreSeen(t *testing.T) {
	got, err := read(header + `<message to='a@b'><body>hi</body><c:composing xmlns:c='urn:cs'/></message>`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`header {http://etherx.jabber.org/streams}stream |to=example.com |version=1.0 ` + header[len(`<?xml version='1.0'?>`):],
		`whole {jabber:client}message |to=a@b [{jabber:client}body <body>hi</body>] [{urn:cs}composing <c:composing xmlns:c='urn:cs'/>] ` +
			`<message to='a@b'><body>hi</body><c:composing xmlns:c='urn:cs'/></message>`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWhatXMPPDoesNotAllowEndsTheStream(t *testing.T) {
	for text, want := range map[string]error{
		header + `<!-- hi -->`:                                 stanza.ErrRestricted,
		header + `<message><!-- hi --></message>`:              stanza.ErrRestricted,
		header + `<message><?php ?></message>`:                 stanza.ErrRestricted,
		`<!DOCTYPE x>` + header:                                stanza.ErrRestricted,
		`<?xml version='1.0'?><?xml version='1.0'?>`:           stanza.ErrRestricted,
		` <?xml version='1.0'?>`:                               stanza.ErrRestricted,
		`<?xml-stylesheet href='x'?>`:                          stanza.ErrRestricted,
		header + `<message><!ENTITY x "y"></message>`:          stanza.ErrRestricted,
		header + `hello`:                                       stanza.ErrSyntax,
		header + `<message></iq>`:                              stanza.ErrSyntax,
		header + `</stream>`:                                   stanza.ErrSyntax,
		header + `<message a='1' a='2'/>`:                      stanza.ErrSyntax,
		header + `<message a=1/>`:                              stanza.ErrSyntax,
		header + `<message a='1'b='2'/>`:                       stanza.ErrSyntax,
		header + `<message a/>`:                                stanza.ErrSyntax,
		header + `<message a='<'/>`:                            stanza.ErrSyntax,
		header + `<message a='&nbsp;'/>`:                       stanza.ErrSyntax,
		header + `<message>&#0;</message>`:                     stanza.ErrSyntax,
		header + `<message>&#xD800;</message>`:                 stanza.ErrSyntax,
		header + "<message>\x01</message>":                     stanza.ErrSyntax,
		header + "<message>\xff</message>":                     stanza.ErrSyntax,
		header + `<message>]]></message>`:                      stanza.ErrSyntax,
		header + `<1/>`:                                        stanza.ErrSyntax,
		header + `<a:b:c xmlns:a='x'/>`:                        stanza.ErrSyntax,
		header + `< message/>`:                                 stanza.ErrSyntax,
		header + `<message xmlns=' x'/>`:                       stanza.ErrSyntax,
		header + `<r xmlns='urn:xmpp:sm:&#51;'/>`:              stanza.ErrSyntax,
		header + `<message xmlns:xml='x'/>`:                    stanza.ErrSyntax,
		header + `<message xmlns:x=''/>`:                       stanza.ErrSyntax,
		header + `<message xmlns:x='a' xmlns:x='b'/>`:          stanza.ErrSyntax,
		`<stream:stream xmlns:stream='s'/>`:                    stanza.ErrSyntax,
		header + `<x:message/>`:                                stanza.ErrPrefix,
		header + `<message x:a='1'/>`:                          stanza.ErrPrefix,
		header + `<message><x:a xmlns:x='1'/><x:a/>`:           stanza.ErrPrefix,
		header + strings.Repeat("<a>", 65):                     stanza.ErrTooDeep,
		header + `<a>` + strings.Repeat("x", 300<<10):          stanza.ErrTooLong,
		header + `<a b='` + strings.Repeat("x", 300<<10):       stanza.ErrTooLong,
		header + `<a>` + strings.Repeat("<b/>", 66<<10):        stanza.ErrTooLong,
		header + `<a><![CDATA[` + strings.Repeat("x", 300<<10): stanza.ErrTooLong,
	} {
		for _, n := range []int{1 << 20, 4096, 7} {
			if _, err := read(pieces(text, n)...); !errors.Is(err, want) {
				t.Errorf("%.80q in pieces of %d: %v, want %v", text, n, err, want)
			}
		}
		if stanza.Condition(want) == "" {
			t.Errorf("%v has no stream error", want)
		}
	}
}

func TestManyAttributesOrPrefixesAreTooMuch(t *testing.T) {
	for _, form := range []string{" a%d='x'", " xmlns:a%d='x'"} {
		text := header + "<a"
		for i := range 65 {
			text += fmt.Sprintf(form, i)
		}
		if _, err := read(text + "/>"); !errors.Is(err, stanza.ErrTooDeep) {
			t.Errorf("%s: %v", form, err)
		}
	}
}

func TestAnErrorIsForGood(t *testing.T) {
	c := stanza.New(stanza.Limits{})
	c.Feed([]byte("<<"))
	_, _, first := c.Next()
	c.Feed([]byte(header))
	if _, _, again := c.Next(); first == nil || !errors.Is(again, first) {
		t.Errorf("%v, then %v", first, again)
	}
}

func TestARestartedStreamHasAnotherHeader(t *testing.T) {
	c := stanza.New(stanza.Limits{})
	c.Feed([]byte(header + `<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>`))
	for range 2 {
		if _, _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
	}
	c.Restart()
	c.Feed([]byte(`<s:stream xmlns:s='http://etherx.jabber.org/streams'><x/></s:stream>`))
	var kinds []string
	for kind := stanza.Header; kind != stanza.NeedMore; {
		var e *stanza.Element
		var err error
		if kind, e, err = c.Next(); err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, kind.String())
		if kind == stanza.Whole && len(e.Space) != 0 {
			t.Errorf("the former header's namespace holds on: %q", e.Space)
		}
	}
	if strings.Join(kinds, " ") != "header whole end need-more" {
		t.Errorf("saw %v", kinds)
	}
}

func TestAWebSocketMessageIsOneElement(t *testing.T) {
	if e, err := stanza.Parse([]byte(`<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a'/>`), stanza.Limits{}); err != nil ||
		!e.Is("urn:ietf:params:xml:ns:xmpp-framing", "open") || string(e.Attr("to")) != "a" {
		t.Errorf("%+v, %v", e, err)
	}
	for _, text := range []string{``, ` <a/>`, `<a/> `, `<a/><b/>`, `<a>`, `<?xml version='1.0'?><a/>`, `text`, `</a>`} {
		if _, err := stanza.Parse([]byte(text), stanza.Limits{}); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestAChildIsReadInItsScope(t *testing.T) {
	e, err := stanza.Parse([]byte(`<message xmlns='jabber:client' xmlns:c='urn:xmpp:carbons:2'><c:received>`+
		`<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' type='chat'><body>x</body></message></forwarded></c:received></message>`), stanza.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range [][2]string{{"urn:xmpp:carbons:2", "received"}, {"urn:xmpp:forward:0", "forwarded"}, {"jabber:client", "message"}} {
		ch := e.Child(step[0], step[1])
		if ch == nil {
			t.Fatalf("no child %v in %s", step, e.Raw)
		}
		if e, err = e.Inside(ch); err != nil || !e.Is(step[0], step[1]) {
			t.Fatalf("inside %v: %+v, %v", step, e, err)
		}
	}
	if e.Child("jabber:client", "body") == nil || string(e.Attr("type")) != "chat" {
		t.Errorf("saw %s", show(stanza.Whole, e))
	}
}
