package boot

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// inspect compares a file's text with the struct it is for: each key must be
// known, each value of the kind that the key takes. It returns the text with
// the faulty parts blanked out, and every fault in the order of the file. The
// TOML library itself stops at the first value of a wrong kind, and names Go
// types instead of what should be written.
func inspect(data []byte, cfg any) (good []byte, faults []fault) {
	in := &inspector{text: data, root: reflect.TypeOf(cfg).Elem()}
	in.parser.Reset(data)
	in.table = place{typ: in.root}
	var spans []span
	for in.parser.NextExpression() {
		e := in.parser.Expression()
		before := len(in.faults)
		bad := in.expression(e)
		spans = append(spans, span{in.start(e), bad || len(in.faults) > before})
	}
	return blank(data, spans), in.faults
}

// span is where an expression begins, and whether it shall be blanked.
type span struct {
	start int
	bad   bool
}

// blank overwrites bad expressions with spaces, so that lines keep their numbers.
func blank(data []byte, spans []span) []byte {
	good := append([]byte(nil), data...)
	for i, s := range spans {
		end := len(good)
		if i+1 < len(spans) {
			end = spans[i+1].start
		}
		for j := s.start; s.bad && j < end; j++ {
			if good[j] != '\n' {
				good[j] = ' '
			}
		}
	}
	return good
}

// place is a position in the config struct.
type place struct {
	typ  reflect.Type // nil below an unknown table
	path string
}

type inspector struct {
	parser unstable.Parser
	text   []byte
	root   reflect.Type
	table  place // the [table] that key-value pairs belong to
	faults []fault
}

// expression checks one line or table header; bad means that it is to be
// blanked though it is no fault of its own.
func (in *inspector) expression(e *unstable.Node) (bad bool) {
	switch e.Kind {
	case unstable.KeyValue:
		if in.table.typ == nil {
			return true
		}
		in.pair(e, in.table)
	case unstable.Table, unstable.ArrayTable:
		in.header(e)
		return in.table.typ == nil
	}
	return false
}

// header enters a table. An unknown one is named once, and not its keys.
func (in *inspector) header(e *unstable.Node) {
	at, ok := in.walk(e.Key(), place{typ: in.root})
	in.table = place{path: at.path}
	if !ok {
		return
	}
	list := at.typ.Kind() == reflect.Slice
	switch {
	case e.Kind == unstable.ArrayTable && !list:
		in.fault(e.Key(), at.path, fmt.Sprintf("is one table: write [%s]", at.path))
	case e.Kind == unstable.Table && list:
		in.fault(e.Key(), at.path, fmt.Sprintf("is a list of tables: write [[%s]]", at.path))
	default:
		if list {
			at.typ = at.typ.Elem()
		}
		if at.typ.Kind() != reflect.Struct || isText(at.typ) {
			in.fault(e.Key(), at.path, "is no table, but "+kindName(at.typ))
			return
		}
		in.table = at
	}
}

// pair checks a key and its value inside a table.
func (in *inspector) pair(e *unstable.Node, table place) {
	if at, ok := in.walk(e.Key(), table); ok {
		in.value(e.Value(), at, e.Key())
	}
}

// walk follows a dotted key from a place; it faults a part that is unknown.
func (in *inspector) walk(key unstable.Iterator, at place) (place, bool) {
	for first := key; key.Next(); {
		part := string(key.Node().Data)
		if at.typ.Kind() == reflect.Slice {
			at.typ = at.typ.Elem() // [[sip.domain]], then [sip.domain.x]
		}
		next, known := place{}, []string(nil)
		if at.typ.Kind() == reflect.Struct && !isText(at.typ) {
			next, known = child(at, part)
		}
		if next.typ == nil {
			text := "unknown key"
			if meant := nearest(part, known); meant != "" {
				text += fmt.Sprintf(", perhaps %q is meant", meant)
			}
			full := strings.TrimPrefix(at.path+"."+part, ".")
			in.fault(first, full, text)
			return place{path: full}, false
		}
		at = next
	}
	return at, true
}

// value checks a value against the type that a key takes.
func (in *inspector) value(v *unstable.Node, at place, key unstable.Iterator) {
	t := at.typ
	switch {
	case isText(t):
		if v.Kind != unstable.String {
			in.fault(key, at.path, fmt.Sprintf("must be %s in quotes (got %s)", kindName(t), in.shown(v)))
			return
		}
		if err := reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText(v.Data); err != nil {
			in.fault(key, at.path, err.Error())
		}
	case t.Kind() == reflect.Interface:
	case t.Kind() == reflect.Slice && v.Kind == unstable.Array:
		for items := v.Children(); items.Next(); {
			if n := items.Node(); n.Kind != unstable.Comment {
				in.value(n, place{typ: t.Elem(), path: at.path}, key)
			}
		}
	case t.Kind() == reflect.Struct && v.Kind == unstable.InlineTable:
		for pairs := v.Children(); pairs.Next(); {
			if n := pairs.Node(); n.Kind == unstable.KeyValue {
				in.pair(n, at)
			}
		}
	case !takes[v.Kind][t.Kind()]:
		in.fault(key, at.path, fmt.Sprintf("must be %s (got %s)", kindName(t), in.shown(v)))
	}
}

// takes lists which Go kinds a plain TOML value is for.
var takes = map[unstable.Kind]map[reflect.Kind]bool{
	unstable.String:  {reflect.String: true},
	unstable.Bool:    {reflect.Bool: true},
	unstable.Float:   {reflect.Float64: true},
	unstable.Integer: {reflect.Int: true, reflect.Int64: true, reflect.Uint16: true, reflect.Float64: true},
}

// shown is a value as the file has it, shortened.
func (in *inspector) shown(v *unstable.Node) string {
	switch v.Kind {
	case unstable.Array:
		return "a list"
	case unstable.InlineTable:
		return "a table"
	}
	s := string(v.Data)
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	if v.Kind == unstable.String {
		return fmt.Sprintf("%q", s)
	}
	return s
}

func (in *inspector) fault(key unstable.Iterator, path, text string) {
	line := 0
	if key.Next() {
		line = in.parser.Shape(key.Node().Raw).Start.Line
	}
	in.faults = append(in.faults, fault{line: line, key: path, text: text})
}

// start is the offset at which an expression begins.
func (in *inspector) start(e *unstable.Node) int {
	if e.Kind == unstable.Comment {
		return int(e.Raw.Offset)
	}
	key := e.Key()
	key.Next()
	at := int(key.Node().Raw.Offset)
	if e.Kind == unstable.KeyValue {
		return at
	}
	for at > 0 && in.text[at-1] != '\n' {
		at--
	}
	return at
}
