package presence

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// PIDF is the type of the documents that can be changed (RFC 3863 §6).
const PIDF = "application/pidf+xml"

// Namespaces of what is looked at in a document.
const (
	nsPIDF  = "urn:ietf:params:xml:ns:pidf"
	nsModel = "urn:ietf:params:xml:ns:pidf:data-model"
	nsRPID  = "urn:ietf:params:xml:ns:pidf:rpid"
)

// maxDepth bounds how deep elements of a document lie in one another.
const maxDepth = 64

// ErrDocument marks what is no presence document, or one that is not understood.
var ErrDocument = errors.New("not a presence document")

// Away returns the document with <rpid:away/> among the person's activities
// (RFC 4480 §3.2). All else keeps its bytes. Where the document has no person it
// gets one, at its end; of several, each is away. A person who says already that
// nobody looks, or that nobody should disturb, stays as it is: away, busy,
// permanent-absence, sleeping and vacation. doc is not changed; it is returned
// itself where there is nothing to do. The error is [ErrDocument].
func Away(doc []byte) ([]byte, error) {
	r, err := read(doc)
	if err != nil {
		return nil, err
	}
	var all edits
	for i := range r.persons {
		r.persons[i].away(doc, &all)
	}
	if len(r.persons) == 0 {
		all.inside(doc, &r.root, true, `<dm:person xmlns:dm="`+nsModel+`" id="`+r.freeID()+`">`+newActivities+`</dm:person>`)
	}
	return all.apply(doc), nil
}

// Closed returns the document with each tuple's basic status "closed": not
// available to be reached (RFC 3863 §4.1.4). Otherwise it is as [Away].
func Closed(doc []byte) ([]byte, error) {
	r, err := read(doc)
	if err != nil {
		return nil, err
	}
	var all edits
	for i := range r.statuses {
		s := &r.statuses[i]
		switch {
		case s.basic == nil:
			all.inside(doc, &s.element, false, `<basic xmlns="`+nsPIDF+`">closed</basic>`)
		case s.basic.empty:
			all.inside(doc, s.basic, false, "closed")
		case string(bytes.TrimSpace(doc[s.basic.opened:s.basic.closes])) != "closed":
			all.replace(s.basic.opened, s.basic.closes, "closed")
		}
	}
	return all.apply(doc), nil
}

const (
	newAway       = `<rpid:away xmlns:rpid="` + nsRPID + `"/>`
	newActivities = `<rpid:activities xmlns:rpid="` + nsRPID + `"><rpid:away/></rpid:activities>`
)

// saysEnough are activities beside which "away" would say less.
var saysEnough = map[string]bool{
	"away": true, "busy": true, "permanent-absence": true, "sleeping": true, "vacation": true,
}

// element is where an element stands in a document.
type element struct {
	opens  int // of its start tag
	opened int // behind its start tag
	closes int // of its end tag; that of an empty one is opened
	empty  bool
	closed bool // closes is known
}

// status is the <status> of a tuple.
type status struct {
	element
	basic *element
}

// activities are one <rpid:activities> of a person.
type activities struct {
	element
	timed   bool // holds from or until some time only (RFC 4480 §3.2)
	unknown *element
	enough  bool
}

// person is a <dm:person>.
type person struct {
	element
	activities []activities
}

func (p *person) away(doc []byte, all *edits) {
	for i := range p.activities {
		if p.activities[i].enough && !p.activities[i].timed {
			return
		}
	}
	for i := range p.activities {
		a := &p.activities[i]
		switch {
		case a.timed:
			continue
		case a.unknown != nil: // stands alone, or not at all
			end := a.unknown.closes
			if !a.unknown.empty {
				end += bytes.IndexByte(doc[end:], '>') + 1
			}
			all.replace(a.unknown.opens, end, newAway)
		default:
			all.inside(doc, &a.element, true, newAway)
		}
		return
	}
	all.inside(doc, &p.element, false, newActivities)
}

// reading is what Away and Closed need to know of a document.
type reading struct {
	root     element
	persons  []person
	statuses []status
	ids      map[string]bool
}

// freeID is an id that no element of the document has (XML 1.0 §3.3.1).
func (r *reading) freeID() string {
	id := "asleep"
	for n := 1; r.ids[id]; n++ {
		id = "asleep" + strconv.Itoa(n)
	}
	return id
}

// read finds in a document what may be changed. encoding/xml tells where each
// token stands; its idea of well-formed is the document's.
func read(doc []byte) (*reading, error) {
	d := xml.NewDecoder(bytes.NewReader(doc))
	w := walk{doc: doc, r: &reading{ids: make(map[string]bool)}}
	for {
		before := int(d.InputOffset())
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: not well-formed XML", ErrDocument)
		}
		if err := w.token(t, before, int(d.InputOffset())); err != nil {
			return nil, err
		}
	}
	if !w.rooted {
		return nil, fmt.Errorf("%w: empty", ErrDocument)
	}
	return w.r, nil
}

// walk goes through a document once.
type walk struct {
	doc    []byte
	r      *reading
	path   []xml.Name
	rooted bool
}

func (w *walk) token(t xml.Token, from, to int) error {
	switch t := t.(type) {
	case xml.Directive:
		return fmt.Errorf("%w: has a document type", ErrDocument)
	case xml.StartElement:
		if len(w.path) >= maxDepth {
			return fmt.Errorf("%w: more than %d elements deep", ErrDocument, maxDepth)
		}
		w.path = append(w.path, t.Name)
		return w.open(t, element{opens: from, opened: to, closes: to, empty: w.doc[to-2] == '/'})
	case xml.EndElement:
		w.close(from)
		w.path = w.path[:len(w.path)-1]
	}
	return nil
}

// is says whether the path is that of PIDF's presence and these names.
func (w *walk) is(names ...xml.Name) bool {
	return len(w.path) == len(names)+1 && slices.Equal(w.path[1:], names)
}

var (
	rootName       = xml.Name{Space: nsPIDF, Local: "presence"}
	tupleName      = xml.Name{Space: nsPIDF, Local: "tuple"}
	statusName     = xml.Name{Space: nsPIDF, Local: "status"}
	basicName      = xml.Name{Space: nsPIDF, Local: "basic"}
	personName     = xml.Name{Space: nsModel, Local: "person"}
	activitiesName = xml.Name{Space: nsRPID, Local: "activities"}
)

func (w *walk) open(t xml.StartElement, at element) error {
	for _, a := range t.Attr {
		if a.Name.Local == "id" {
			w.r.ids[a.Value] = true
		}
	}
	if len(w.path) == 1 {
		if w.rooted || t.Name != rootName {
			return fmt.Errorf("%w: its root is not one presence of RFC 3863", ErrDocument)
		}
		w.rooted, w.r.root = true, at
		return nil
	}
	switch {
	case w.is(personName):
		w.r.persons = append(w.r.persons, person{element: at})
	case w.is(personName, activitiesName):
		p := &w.r.persons[len(w.r.persons)-1]
		p.activities = append(p.activities, activities{element: at, timed: timed(t)})
	case len(w.path) == 4 && t.Name.Space == nsRPID && slices.Equal(w.path[1:3], []xml.Name{personName, activitiesName}):
		p := &w.r.persons[len(w.r.persons)-1]
		a := &p.activities[len(p.activities)-1]
		a.enough = a.enough || saysEnough[t.Name.Local]
		if t.Name.Local == "unknown" && a.unknown == nil {
			a.unknown = &at
		}
	case w.is(tupleName, statusName):
		w.r.statuses = append(w.r.statuses, status{element: at})
	case w.is(tupleName, statusName, basicName):
		if s := &w.r.statuses[len(w.r.statuses)-1]; s.basic == nil {
			s.basic = &at
		}
	}
	return nil
}

func timed(t xml.StartElement) bool {
	return slices.ContainsFunc(t.Attr, func(a xml.Attr) bool { return a.Name.Local == "from" || a.Name.Local == "until" })
}

// close notes where the innermost element ends, if that matters.
func (w *walk) close(at int) {
	set := func(e *element) {
		if !e.empty && !e.closed {
			e.closes, e.closed = at, true
		}
	}
	switch {
	case len(w.path) == 1:
		set(&w.r.root)
	case w.is(personName):
		set(&w.r.persons[len(w.r.persons)-1].element)
	case w.is(personName, activitiesName):
		p := &w.r.persons[len(w.r.persons)-1]
		set(&p.activities[len(p.activities)-1].element)
	case w.is(personName, activitiesName, xml.Name{Space: nsRPID, Local: "unknown"}):
		p := &w.r.persons[len(w.r.persons)-1]
		set(p.activities[len(p.activities)-1].unknown)
	case w.is(tupleName, statusName):
		set(&w.r.statuses[len(w.r.statuses)-1].element)
	case w.is(tupleName, statusName, basicName):
		set(w.r.statuses[len(w.r.statuses)-1].basic)
	}
}

// edits are changes to a document, in the order in which they stand there.
type edits []edit

type edit struct {
	from, to int
	text     string
}

func (all *edits) replace(from, to int, text string) { *all = append(*all, edit{from, to, text}) }

// inside puts text into an element, at its end or its beginning.
func (all *edits) inside(doc []byte, e *element, last bool, text string) {
	switch {
	case e.empty:
		name := string(doc[e.opens+1 : e.opened])
		name = name[:strings.IndexAny(name, " \t\r\n/>")]
		all.replace(e.opened-2, e.opened, ">"+text+"</"+name+">")
	case last:
		all.replace(e.closes, e.closes, text)
	default:
		all.replace(e.opened, e.opened, text)
	}
}

func (all edits) apply(doc []byte) []byte {
	if len(all) == 0 {
		return doc
	}
	var out []byte
	at := 0
	for _, e := range all {
		out = append(append(out, doc[at:e.from]...), e.text...)
		at = e.to
	}
	return append(out, doc[at:]...)
}
