package boot

import (
	"encoding"
	"reflect"
	"strings"
)

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// isText reports whether values of t are written as text, like durations.
func isText(t reflect.Type) bool {
	return t.Kind() != reflect.Interface && reflect.PointerTo(t).Implements(textType)
}

// key is the name of a field in TOML, "" for a field that has none.
func key(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
	if name == "-" || !f.IsExported() {
		return ""
	}
	return name
}

// child finds a key in a struct, and returns all that it has.
func child(at place, name string) (found place, known []string) {
	for f := range at.typ.Fields() {
		k := key(f)
		if k == "" {
			continue
		}
		known = append(known, k)
		if k == name {
			found = place{typ: f.Type, path: strings.TrimPrefix(at.path+"."+k, ".")}
		}
	}
	return found, known
}

// kindName says what a key takes, in the words of the config file.
func kindName(t reflect.Type) string {
	switch name := strings.ToLower(t.Name()); {
	case isText(t) && name == "duration":
		return `a duration, such as "13s"`
	case isText(t) && name == "size":
		return `a size, such as "64KiB"`
	case isText(t):
		return "a " + name
	}
	switch t.Kind() {
	case reflect.String:
		return "text in quotes"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		if e := t.Elem(); e.Kind() == reflect.Struct && !isText(e) {
			return "a list of tables"
		}
		return `a list, such as ["a", "b"]`
	case reflect.Struct:
		return "a table"
	case reflect.Float64:
		return "a number"
	default:
		return "a whole number"
	}
}

// nearest returns the known name that a misspelt one is closest to, "" when
// none is close.
func nearest(name string, known []string) string {
	best, found := 3, "" // two slips of the finger at most
	for _, k := range known {
		if d := distance(name, k); d < best {
			best, found = d, k
		}
	}
	return found
}

// distance counts the letters to insert, delete, replace or swap with a
// neighbour to make b of a.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := d[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			d[i][j] = min(change, d[i-1][j]+1, d[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
