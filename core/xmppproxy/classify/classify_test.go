package classify_test

import (
	"strings"
	"testing"
	"time"

	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/classify"
)

const (
	own   = "alice@example.com"
	chat  = `<message xmlns='jabber:client' from='bob@example.com/desk' to='alice@example.com' type='chat' id='m1'>`
	group = `<message xmlns='jabber:client' from='room@muc.example.com/bob' to='alice@example.com/phone' type='groupchat' id='m1'>`
	rtp   = `<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/>`
	video = `<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='video'/>`
	omemo = `<encrypted xmlns='eu.siacs.conversations.axolotl'><header sid='1'><key rid='2'>a</key></header><payload>b</payload></encrypted>`
)

func carbon(which, from, inner string) string {
	return `<message xmlns='jabber:client' from='` + from + `' to='alice@example.com/phone' type='chat'><` + which +
		` xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>` + inner + `</forwarded></` + which + `></message>`
}

func of(t *testing.T, text string) classify.Verdict {
	t.Helper()
	e, err := stanza.Parse([]byte(text), stanza.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return classify.Of(e, classify.Self{JID: "Alice@example.com", Nick: func(room string) string {
		return map[string]string{"room@muc.example.com": "Ali"}[room]
	}})
}

// The table of B.6, a row each.
var rows = map[string]struct {
	text string
	want classify.Class
}{
	"a message with a body": {chat + `<body>hi</body></message>`, classify.Message},
	"in a CDATA section":    {chat + `<body><![CDATA[hi]]></body></message>`, classify.Message},
	"with an empty body":    {chat + `<body> </body></message>`, classify.None},
	"from a room":           {group + `<body>hi</body></message>`, classify.Message},
	"of the room itself": {`<message xmlns='jabber:client' from='room@muc.example.com' type='groupchat'><body>locked</body></message>`,
		classify.None},
	"own words from a room": {strings.Replace(group, "/bob", "/Ali", 1) + `<body>hi</body></message>`, classify.None},
	"a subject":             {group + `<subject>hi</subject></message>`, classify.None},
	"a headline":            {strings.Replace(chat, "'chat'", "'headline'", 1) + `<body>hi</body></message>`, classify.None},
	"an error":              {strings.Replace(chat, "'chat'", "'error'", 1) + `<body>hi</body></message>`, classify.None},
	"OMEMO":                 {chat + omemo + `</message>`, classify.Message},
	"OMEMO with a hint as its body": {chat + `<body>I sent you an OMEMO message</body>` + omemo +
		`<encryption xmlns='urn:xmpp:eme:0' namespace='eu.siacs.conversations.axolotl'/></message>`, classify.Message},
	"OMEMO 2": {chat + `<encrypted xmlns='urn:xmpp:omemo:2'><header/><payload>x</payload></encrypted></message>`, classify.Message},
	"OMEMO keys alone": {chat + `<encrypted xmlns='eu.siacs.conversations.axolotl'><header/></encrypted>` +
		`<encryption xmlns='urn:xmpp:eme:0' namespace='eu.siacs.conversations.axolotl'/><store xmlns='urn:xmpp:hints'/></message>`, classify.None},
	"OX":                      {chat + `<openpgp xmlns='urn:xmpp:openpgp:0'>x</openpgp></message>`, classify.Message},
	"PGP":                     {chat + `<x xmlns='jabber:x:encrypted'>x</x></message>`, classify.Message},
	"EME of another kind":     {chat + `<encryption xmlns='urn:xmpp:eme:0' namespace='x'/><y xmlns='x'/></message>`, classify.Message},
	"OTR":                     {chat + `<body>?OTR:AAMDx</body></message>`, classify.Message},
	"a mediated invitation":   {strings.Replace(chat, "bob@example.com/desk", "tea@muc.example.com", 1) + `<x xmlns='http://jabber.org/protocol/muc#user'><invite from='bob@example.com'/></x></message>`, classify.Message},
	"a direct invitation":     {chat + `<x xmlns='jabber:x:conference' jid='tea@muc.example.com'/></message>`, classify.Message},
	"JMI 1 propose":           {chat + `<propose xmlns='urn:xmpp:jingle-message:1' id='c1'>` + rtp + `</propose></message>`, classify.Call},
	"JMI 0 propose":           {chat + `<propose xmlns='urn:xmpp:jingle-message:0' id='c1'>` + rtp + `</propose><store xmlns='urn:xmpp:hints'/></message>`, classify.Call},
	"a proposal without more": {chat + `<propose xmlns='urn:xmpp:jingle-message:0' id='c1'/></message>`, classify.Call},
	"a proposed file": {chat + `<propose xmlns='urn:xmpp:jingle-message:1' id='c1'><description xmlns='urn:xmpp:jingle:apps:file-transfer:5'/></propose></message>`,
		classify.None},
	"a proposal without an id":    {chat + `<propose xmlns='urn:xmpp:jingle-message:1'/></message>`, classify.None},
	"retract":                     {chat + `<retract xmlns='urn:xmpp:jingle-message:1' id='c1'/></message>`, classify.Missed},
	"finish":                      {chat + `<finish xmlns='urn:xmpp:jingle-message:1' id='c1'/></message>`, classify.Missed},
	"ringing":                     {chat + `<ringing xmlns='urn:xmpp:jingle-message:1' id='c1'/></message>`, classify.None},
	"somebody else's accept":      {chat + `<accept xmlns='urn:xmpp:jingle-message:1' id='c1'/></message>`, classify.None},
	"accept by another device":    {`<message xmlns='jabber:client' from='alice@example.com/desk' to='alice@example.com' type='chat'><accept xmlns='urn:xmpp:jingle-message:1' id='c1'/></message>`, classify.Taken},
	"proceed by another device":   {carbon("sent", own, `<message xmlns='jabber:client' from='alice@example.com/desk' to='bob@example.com/desk'><proceed xmlns='urn:xmpp:jingle-message:1' id='c1'/></message>`), classify.Taken},
	"reject by another device":    {carbon("sent", own, `<message xmlns='jabber:client' from='alice@example.com/desk' to='bob@example.com/desk'><reject xmlns='urn:xmpp:jingle-message:0' id='c1'/></message>`), classify.Taken},
	"a call that the user makes":  {carbon("sent", own, `<message xmlns='jabber:client' from='alice@example.com/desk' to='bob@example.com'><propose xmlns='urn:xmpp:jingle-message:1' id='c1'/></message>`), classify.None},
	"session-initiate":            {`<iq xmlns='jabber:client' type='set' from='bob@example.com/desk' id='1'><jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' sid='c1'><content creator='initiator' name='a'>` + rtp + `</content></jingle></iq>`, classify.Call},
	"session-terminate":           {`<iq xmlns='jabber:client' type='set' from='bob@example.com/desk' id='1'><jingle xmlns='urn:xmpp:jingle:1' action='session-terminate' sid='c1'/></iq>`, classify.Missed},
	"session-initiate for a file": {`<iq xmlns='jabber:client' type='set' from='bob@example.com/desk' id='1'><jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' sid='c1'><content><description xmlns='urn:xmpp:jingle:apps:file-transfer:5'/></content></jingle></iq>`, classify.None},
	"transport-info":              {`<iq xmlns='jabber:client' type='set' from='bob@example.com/desk' id='1'><jingle xmlns='urn:xmpp:jingle:1' action='transport-info' sid='c1'/></iq>`, classify.None},
	"another request":             {`<iq xmlns='jabber:client' type='get' from='bob@example.com/desk' id='1'><ping xmlns='urn:xmpp:ping'/></iq>`, classify.None},
	"a subscription request":      {`<presence xmlns='jabber:client' type='subscribe' from='bob@example.com'/>`, classify.Low},
	"presence":                    {`<presence xmlns='jabber:client' from='bob@example.com/desk'><show>away</show></presence>`, classify.None},
	"a chat state":                {chat + `<composing xmlns='http://jabber.org/protocol/chatstates'/></message>`, classify.None},
	"a receipt":                   {chat + `<received xmlns='urn:xmpp:receipts' id='x'/></message>`, classify.None},
	"a marker":                    {chat + `<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/></message>`, classify.None},
	"PEP":                         {strings.Replace(chat, "'chat'", "'normal'", 1) + `<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='x'/></event><body>x</body></message>`, classify.None},
	"no-store without a body":     {chat + `<x xmlns='y'/><no-store xmlns='urn:xmpp:hints'/></message>`, classify.None},
	"from the archive": {`<message xmlns='jabber:client' from='alice@example.com' to='alice@example.com/phone'><result xmlns='urn:xmpp:mam:2' id='1'><forwarded xmlns='urn:xmpp:forward:0'>` +
		chat + `<body>hi</body></message></forwarded></result></message>`, classify.None},
	"a carbon of what came":                         {carbon("received", own, chat+`<body>hi</body></message>`), classify.Message},
	"a carbon without a sender":                     {strings.Replace(carbon("received", own, chat+`<body>hi</body></message>`), "from='alice@example.com' ", "", 1), classify.Message},
	"a carbon of a chat state":                      {carbon("received", own, chat+`<active xmlns='http://jabber.org/protocol/chatstates'/></message>`), classify.None},
	"a carbon of what the user sent":                {carbon("sent", own, `<message xmlns='jabber:client' from='alice@example.com/desk' to='bob@example.com'><body>hi</body></message>`), classify.None},
	"a forged carbon":                               {carbon("received", "mallory@example.com", chat+`<body>hi</body></message>`), classify.None},
	"a carbon forged by another client of the user": {carbon("received", "alice@example.com/desk", chat+`<body>hi</body></message>`), classify.None},
	"a call to a whole room":                        {group + `<propose xmlns='urn:xmpp:jingle-message:1' id='c1'/></message>`, classify.None},
	"a carbon of nothing":                           {`<message xmlns='jabber:client'><received xmlns='urn:xmpp:carbons:2'/></message>`, classify.None},
	"what the user sent to itself":                  {strings.Replace(chat, "bob@example.com/desk", "alice@example.com/desk", 1) + `<body>hi</body></message>`, classify.None},
	"no stanza":                                     {`<r xmlns='urn:xmpp:sm:3'/>`, classify.None},
}

func TestB6_WhatPushes(t *testing.T) {
	for name, row := range rows {
		v := of(t, row.text)
		if v.Class != row.want {
			t.Errorf("%s is %v (%s), want %v", name, v.Class, v.Why, row.want)
		}
		if told := v.Key != "" && v.Conversation != ""; told != (v.Class != classify.None) || told == (v.Why != "") {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestB6_WhatIsEncryptedIsNeverShown(t *testing.T) {
	for _, name := range []string{"OMEMO", "OMEMO with a hint as its body", "OMEMO 2", "OX", "PGP", "EME of another kind", "OTR"} {
		if v := of(t, rows[name].text); !v.Encrypted || v.Text != "" {
			t.Errorf("%s: %+v", name, v)
		}
	}
	v := of(t, chat+`<body>`+strings.Repeat("ü", 4000)+`</body></message>`)
	if v.Encrypted || len(v.Text) != classify.MaxText || !strings.HasPrefix(v.Text, "üü") {
		t.Errorf("%d bytes of a long text", len(v.Text))
	}
}

func TestB6_WhoSentItIsSeen(t *testing.T) {
	for text, want := range map[string][3]string{ // sender, conversation, name
		chat + `<body>a</body></message>`:  {"bob@example.com", "bob@example.com", ""},
		group + `<body>a</body></message>`: {"room@muc.example.com/bob", "room@muc.example.com", "bob"},
		`<message xmlns='jabber:client' type='chat' from='Room@muc.example.com/Bob' to='a@b'><body>a</body><x xmlns='http://jabber.org/protocol/muc#user'/></message>`: {
			"Room@muc.example.com/Bob", "room@muc.example.com/Bob", "Bob"},
		// A contact that only looks like somebody in a room names nobody.
		`<message xmlns='jabber:client' type='chat' from='eve@example.com/Boss' to='a@b'><body>a</body><x xmlns='http://jabber.org/protocol/muc#user'/></message>`: {
			"eve@example.com", "eve@example.com", ""},
		rows["a mediated invitation"].text: {"tea@muc.example.com", "tea@muc.example.com", ""},
		rows["a direct invitation"].text:   {"bob@example.com", "tea@muc.example.com", ""},
	} {
		v := of(t, text)
		if got := [3]string{v.Sender, v.Conversation, v.Name}; got != want {
			t.Errorf("%s\ngot  %q\nwant %q", text, got, want)
		}
	}
	if v := of(t, rows["a carbon of what came"].text); !v.Carbon || v.Sender != "bob@example.com" {
		t.Errorf("carbon: %+v", v)
	}
}

func TestB6_AMentionIsUrgent(t *testing.T) {
	for uri, want := range map[string]bool{"xmpp:alice@example.com": true, "xmpp:Alice@example.com": true, "xmpp:bob@example.com": false, "alice@example.com": false} {
		v := of(t, group+`<body>Alice: hi</body><reference xmlns='urn:xmpp:reference:0' type='mention' begin='0' end='5' uri='`+uri+`'/></message>`)
		if v.Urgent != want {
			t.Errorf("%s: %+v", uri, v)
		}
	}
}

func TestB6_ACallIsKnownByItsID(t *testing.T) {
	propose, initiate := of(t, rows["JMI 1 propose"].text), of(t, rows["session-initiate"].text)
	if propose.CallID != "c1" || propose.Key != initiate.Key || propose.Video {
		t.Errorf("proposed %+v, initiated %+v", propose, initiate)
	}
	if v := of(t, strings.Replace(rows["JMI 1 propose"].text, rtp, rtp+video, 1)); !v.Video {
		t.Errorf("with a picture: %+v", v)
	}
	if v := of(t, strings.Replace(rows["session-initiate"].text, rtp, video, 1)); !v.Video {
		t.Errorf("with a picture: %+v", v)
	}
	if v := of(t, strings.Replace(rows["JMI 1 propose"].text, "bob@", "eve@", 1)); v.Key == propose.Key {
		t.Error("two callers share a key")
	}
}

func TestB6_ACallThatWasStoredSaysSinceWhen(t *testing.T) {
	for stamp, want := range map[string]string{
		"2026-11-24T20:00:00Z": "2026-11-24T20:00:00Z", "2026-11-24T21:00:00.123+01:00": "2026-11-24T20:00:00.123Z", "yesterday": "", "": "",
	} {
		v := of(t, strings.Replace(rows["JMI 1 propose"].text, "</message>", `<delay xmlns='urn:xmpp:delay' from='example.com' stamp='`+stamp+`'/></message>`, 1))
		got := ""
		if !v.Stored.IsZero() {
			got = v.Stored.UTC().Format(time.RFC3339Nano)
		}
		if v.Class != classify.Call || got != want {
			t.Errorf("%q: %v since %q", stamp, v.Class, got)
		}
	}
}

func TestB6_CopiesHaveOneKey(t *testing.T) {
	const sid = `<stanza-id xmlns='urn:xmpp:sid:0' by='alice@example.com' id='s1'/>`
	direct := of(t, chat+`<body>a</body></message>`)
	if c := of(t, carbon("received", own, chat+`<body>a</body></message>`)); c.Key != direct.Key {
		t.Error("a carbon has another key than what came")
	}
	stamped := of(t, chat+`<body>a</body>`+sid+`</message>`)
	if again := of(t, strings.Replace(chat, "m1", "other", 1)+`<body>a</body>`+sid+`<delay xmlns='urn:xmpp:delay' stamp='x'/></message>`); again.Key != stamped.Key {
		t.Error("the server's id does not decide")
	}
	if other := of(t, chat+`<body>a</body>`+strings.Replace(sid, "by='alice", "by='mallory", 1)+`</message>`); other.Key != direct.Key {
		t.Error("another one's id decides")
	}
	bare := strings.Replace(chat, " id='m1'", "", 1)
	if a, b := of(t, bare+`<body>a</body></message>`), of(t, bare+`<body>a</body><delay xmlns='urn:xmpp:delay' stamp='x'/></message>`); a.Key != b.Key {
		t.Error("when it was stored decides")
	}
	if a, b := of(t, bare+`<body>a</body></message>`), of(t, bare+`<body>b</body></message>`); a.Key == b.Key {
		t.Error("two texts share a key")
	}
}

// FuzzOf: whatever is well-formed is judged, within bounds.
func FuzzOf(f *testing.F) {
	for _, row := range rows {
		f.Add([]byte(row.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := stanza.Parse(text, stanza.Limits{})
		if err != nil {
			return
		}
		v := classify.Of(e, classify.Self{JID: own})
		if len(v.Text) > classify.MaxText || len(v.Key) > 64 || len(v.CallID) > 256 || v.Encrypted && v.Text != "" || v.Class.String() == "" {
			t.Fatalf("%q: %+v", text, v)
		}
	})
}

func BenchmarkOf(b *testing.B) {
	e, err := stanza.Parse([]byte(chat+`<body>Shall we meet at the usual place?</body><active xmlns='http://jabber.org/protocol/chatstates'/>`+
		`<request xmlns='urn:xmpp:receipts'/><stanza-id xmlns='urn:xmpp:sid:0' by='alice@example.com' id='6f1d5d0e'/></message>`), stanza.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if classify.Of(e, classify.Self{JID: own}).Class != classify.Message {
			b.Fatal("no message")
		}
	}
}
