package presence

import (
	"bytes"
	"encoding/xml"
	"errors"
	"strings"
	"testing"
)

const (
	head = `<?xml version="1.0" encoding="UTF-8"?>` + "\r\n" +
		`<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:alice@example.com">` + "\r\n"
	tuple = ` <tuple id="t1"><status><basic>open</basic></status><contact priority="0.8">sip:alice@example.com</contact></tuple>` + "\r\n"
	tail  = "</presence>\r\n"

	addedPerson = `<dm:person xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" id="asleep">` + addedActivities + `</dm:person>`

	addedActivities = `<rpid:activities xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid"><rpid:away/></rpid:activities>`
	addedAway       = `<rpid:away xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid"/>`

	model = ` xmlns:d="urn:ietf:params:xml:ns:pidf:data-model" xmlns:r="urn:ietf:params:xml:ns:pidf:rpid"`
)

// person is a document with a person of that content.
func personOf(content string) string {
	return head + tuple + `<d:person` + model + ` id="p">` + content + `</d:person>` + tail
}

// RFC 4479, RFC 4480: the person is away, and nothing else is touched.
func TestTSM6_AwayIsAddedAndAllElseKeepsItsBytes(t *testing.T) {
	for name, c := range map[string]struct{ doc, want string }{
		"no person":     {head + tuple + tail, head + tuple + addedPerson + tail},
		"no tuple":      {head + tail, head + addedPerson + tail},
		"an empty root": {`<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="a"/>`, `<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="a">` + addedPerson + `</presence>`},
		"a prefixed empty root": {`<p:presence xmlns:p="urn:ietf:params:xml:ns:pidf" />`,
			`<p:presence xmlns:p="urn:ietf:params:xml:ns:pidf" >` + addedPerson + `</p:presence>`},
		"the id is taken": {head + `<tuple id="asleep"/><tuple id='asleep1'/>` + tail,
			head + `<tuple id="asleep"/><tuple id='asleep1'/>` + strings.Replace(addedPerson, `"asleep"`, `"asleep2"`, 1) + tail},
		"a person without activities": {personOf(`<d:note>lunch &amp; <![CDATA[</x>]]></d:note>`),
			personOf(addedActivities + `<d:note>lunch &amp; <![CDATA[</x>]]></d:note>`)},
		"an empty person":        {head + `<d:person` + model + ` id="p" />` + tail, head + `<d:person` + model + ` id="p" >` + addedActivities + `</d:person>` + tail},
		"activities":             {personOf(`<r:activities><r:meeting/></r:activities>`), personOf(`<r:activities><r:meeting/>` + addedAway + `</r:activities>`)},
		"empty activities":       {personOf(`<r:activities/>`), personOf(`<r:activities>` + addedAway + `</r:activities>`)},
		"unknown stands alone":   {personOf(`<r:activities><r:unknown/></r:activities>`), personOf(`<r:activities>` + addedAway + `</r:activities>`)},
		"unknown, written long":  {personOf(`<r:activities><r:unknown></r:unknown ></r:activities>`), personOf(`<r:activities>` + addedAway + `</r:activities>`)},
		"activities of some day": {personOf(`<r:activities from="2026-01-01T00:00:00Z"><r:away/></r:activities>`), personOf(addedActivities + `<r:activities from="2026-01-01T00:00:00Z"><r:away/></r:activities>`)},
		"two persons": {head + `<d:person` + model + ` id="p"/><d:person` + model + ` id="q"><r:activities/></d:person>` + tail,
			head + `<d:person` + model + ` id="p">` + addedActivities + `</d:person><d:person` + model + ` id="q"><r:activities>` + addedAway + `</r:activities></d:person>` + tail},
		"a person elsewhere": {head + `<x xmlns="urn:x"><person xmlns="urn:ietf:params:xml:ns:pidf:data-model"/></x>` + tail,
			head + `<x xmlns="urn:x"><person xmlns="urn:ietf:params:xml:ns:pidf:data-model"/></x>` + addedPerson + tail},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Away([]byte(c.doc))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("from %s\ngot  %s\nwant %s", c.doc, got, c.want)
			}
			if again, err := Away(got); err != nil || !bytes.Equal(again, got) {
				t.Errorf("a second time gives %s, %v", again, err)
			}
		})
	}
}

func TestTSM6_WhoSaysEnoughStaysAsHeIs(t *testing.T) {
	for _, activity := range []string{"away", "busy", "permanent-absence", "sleeping", "vacation"} {
		doc := personOf(`<r:activities><r:note>n</r:note><r:` + activity + `/></r:activities>`)
		if got, err := Away([]byte(doc)); err != nil || string(got) != doc {
			t.Errorf("%s: %s, %v", activity, got, err)
		}
	}
	foreign := personOf(`<r:activities><busy xmlns="urn:x"/></r:activities>`)
	if got, err := Away([]byte(foreign)); err != nil || string(got) == foreign {
		t.Errorf("another's busy: %s, %v", got, err)
	}
}

// RFC 3863 §4.1.4.
func TestClosedClosesEachTuple(t *testing.T) {
	for _, c := range []struct{ doc, want string }{
		{head + tuple + tail, head + strings.Replace(tuple, "open", "closed", 1) + tail},
		{head + strings.Replace(tuple, "open", " closed ", 1) + tail, head + strings.Replace(tuple, "open", " closed ", 1) + tail},
		{head + `<tuple id="a"><status/></tuple>` + tail, head + `<tuple id="a"><status><basic xmlns="urn:ietf:params:xml:ns:pidf">closed</basic></status></tuple>` + tail},
		{head + `<tuple id="a"><status><x xmlns="urn:x"/></status></tuple>` + tail, head + `<tuple id="a"><status><basic xmlns="urn:ietf:params:xml:ns:pidf">closed</basic><x xmlns="urn:x"/></status></tuple>` + tail},
		{head + `<tuple id="a"><status><basic/></status></tuple>` + tail, head + `<tuple id="a"><status><basic>closed</basic></status></tuple>` + tail},
		{head + `<tuple id="a"><status><basic></basic><basic>open</basic></status></tuple>` + tail, head + `<tuple id="a"><status><basic>closed</basic><basic>open</basic></status></tuple>` + tail},
		{head + `<tuple id="a"/>` + tail, head + `<tuple id="a"/>` + tail},
	} {
		if got, err := Closed([]byte(c.doc)); err != nil || string(got) != c.want {
			t.Errorf("from %s\ngot  %s, %v\nwant %s", c.doc, got, err, c.want)
		}
	}
}

func TestWhatIsNoDocumentIsRefused(t *testing.T) {
	for name, doc := range map[string]string{
		"nothing":         "",
		"text":            "alice is away",
		"cut off":         head + tuple,
		"another root":    `<presence xmlns="jabber:client"/>`,
		"two roots":       head + tail + head + tail,
		"a document type": `<!DOCTYPE presence [<!ENTITY x "y">]>` + head + tail,
		"another charset": `<?xml version="1.0" encoding="ISO-8859-1"?><presence xmlns="urn:ietf:params:xml:ns:pidf"/>`,
		"too deep":        head + strings.Repeat("<a>", maxDepth) + strings.Repeat("</a>", maxDepth) + tail,
	} {
		if got, err := Away([]byte(doc)); !errors.Is(err, ErrDocument) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if got, err := Closed([]byte(doc)); !errors.Is(err, ErrDocument) {
			t.Errorf("%s, closed: %q, %v", name, got, err)
		}
	}
}

func TestPartial(t *testing.T) {
	list := func(full string) string {
		return "preamble\r\n--b1\r\nContent-Type: application/rlmi+xml\r\n\r\n<?xml version='1.0'?><list xmlns=\"urn:ietf:params:xml:ns:rlmi\" fullState='" + full + "'/>\r\n--b1\r\n\r\n<x state='partial'/>\r\n--b1--"
	}
	for _, c := range []struct {
		kind, body string
		want       bool
	}{
		{PIDF, head + tuple + tail, false},
		{"application/pidf-diff+xml", `<p:pidf-full xmlns:p="urn:ietf:params:xml:ns:pidf-diff"/>`, false},
		{"application/pidf-diff+xml;charset=utf-8", `<!-- x --><p:pidf-diff xmlns:p="urn:ietf:params:xml:ns:pidf-diff"/>`, true},
		{"application/watcherinfo+xml", `<watcherinfo state="partial"/>`, true},
		{"application/dialog-info+xml", `<dialog-info state="full"/>`, false},
		{"multipart/related;type=\"application/rlmi+xml\";boundary=\"b1\"", list("false"), true},
		{"multipart/related;type=\"application/rlmi+xml\";boundary=b1", list("true"), false},
		{"multipart/related", list("false"), false},
		{"application/simple-message-summary", "Messages-Waiting: yes", false},
		{"application/watcherinfo+xml", "<", false},
		{"", "", false},
	} {
		if got := Partial(c.kind, []byte(c.body)); got != c.want {
			t.Errorf("%s %s: %v", c.kind, c.body, got)
		}
	}
}

// seen is a document as encoding/xml reads it.
type seen struct {
	XMLName xml.Name `xml:"urn:ietf:params:xml:ns:pidf presence"`
	Persons []struct {
		Activities []struct {
			From  string    `xml:"from,attr"`
			Until string    `xml:"until,attr"`
			All   []anyName `xml:",any"`
		} `xml:"urn:ietf:params:xml:ns:pidf:rpid activities"`
	} `xml:"urn:ietf:params:xml:ns:pidf:data-model person"`
	Tuples []struct {
		Status []struct {
			Basic []string `xml:"urn:ietf:params:xml:ns:pidf basic"`
		} `xml:"urn:ietf:params:xml:ns:pidf status"`
	} `xml:"urn:ietf:params:xml:ns:pidf tuple"`
}

type anyName struct{ XMLName xml.Name }

// tokens are what a document says, without how it is written.
func tokens(t *testing.T, doc []byte) (all []string) {
	d := xml.NewDecoder(bytes.NewReader(doc))
	for {
		tok, err := d.Token()
		switch tok := tok.(type) {
		case xml.StartElement:
			all = append(all, "<"+tok.Name.Space+" "+tok.Name.Local)
		case xml.EndElement:
			all = append(all, ">"+tok.Name.Space+" "+tok.Name.Local)
		case nil:
			if err.Error() != "EOF" {
				t.Fatalf("%q: %v", doc, err)
			}
			return all
		}
	}
}

// within says whether all of some come in order among others.
func within(some, others []string) bool {
	for _, o := range others {
		if len(some) > 0 && some[0] == o {
			some = some[1:]
		}
	}
	return len(some) == 0
}

func FuzzDocument(f *testing.F) {
	for _, doc := range []string{
		head + tail, head + tuple + tail, personOf(""), personOf(`<r:activities/>`), personOf(`<r:activities><r:unknown/></r:activities>`),
		personOf(`<r:activities until="x"><r:away/></r:activities><r:activities><r:busy/></r:activities>`),
		`<presence xmlns="urn:ietf:params:xml:ns:pidf"/>`, head + `<tuple id="a"><status/></tuple>` + tail,
		head + `<tuple id="a"><status><basic/></status></tuple>` + tail, head + `<d:person` + model + `/>` + tail, "",
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		was := bytes.Clone(doc)
		away, err := Away(doc)
		closed, errClosed := Closed(doc)
		if !bytes.Equal(was, doc) {
			t.Fatal("the document itself was changed")
		}
		if (err == nil) != (errClosed == nil) {
			t.Fatalf("away says %v, closed %v", err, errClosed)
		}
		Partial("application/pidf-diff+xml", doc)
		Partial("multipart/related;boundary=b", doc)
		if err != nil {
			return
		}
		checkAway(t, doc, away)
		checkClosed(t, closed)
	})
}

func checkAway(t *testing.T, doc, away []byte) {
	var after seen
	if err := xml.Unmarshal(away, &after); err != nil {
		t.Fatalf("%q became %q: %v", doc, away, err)
	}
	if len(after.Persons) == 0 {
		t.Fatalf("%q became %q: nobody is away", doc, away)
	}
	for _, p := range after.Persons {
		enough := false
		for _, a := range p.Activities {
			for _, n := range a.All {
				enough = enough || n.XMLName.Space == nsRPID && saysEnough[n.XMLName.Local]
			}
		}
		if !enough {
			t.Fatalf("%q became %q: a person is not away", doc, away)
		}
	}
	if !bytes.Contains(doc, []byte("unknown")) && !within(tokens(t, doc), tokens(t, away)) {
		t.Fatalf("%q became %q: something is lost", doc, away)
	}
	if again, err := Away(away); err != nil || !bytes.Equal(again, away) {
		t.Fatalf("%q and then %q, %v", away, again, err)
	}
}

func checkClosed(t *testing.T, closed []byte) {
	var after seen
	if err := xml.Unmarshal(closed, &after); err != nil {
		t.Fatalf("%q: %v", closed, err)
	}
	for _, tu := range after.Tuples {
		for _, s := range tu.Status {
			if len(s.Basic) == 0 || strings.TrimSpace(s.Basic[0]) != "closed" {
				t.Fatalf("%q: a tuple is %q", closed, s.Basic)
			}
		}
	}
}
