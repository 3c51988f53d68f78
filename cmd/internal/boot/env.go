package boot

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// envPrefix begins every variable that sets a key.
const envPrefix = "SALLYPORT_"

// envFault is one variable that could not be taken.
type envFault struct{ name, key, text string }

// applyEnv sets the keys that SALLYPORT_SECTION_KEY variables name. A variable
// that begins like a section but names no key of it is a fault; others that
// begin with SALLYPORT_ are somebody else's. from maps each key that was set
// to its variable.
func applyEnv(cfg any, env []string) (from map[string]string, faults []envFault) {
	root := reflect.ValueOf(cfg).Elem()
	keys := map[string]field{}
	collect(root, "", keys)
	from = map[string]string{}
	env = slices.Clone(env)
	slices.Sort(env)
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		rest, ok := strings.CutPrefix(name, envPrefix)
		if !ok {
			continue
		}
		f, known := keys[rest]
		switch {
		case known:
			if err := set(f.value, value); err != nil {
				faults = append(faults, envFault{name, f.path, err.Error()})
				continue
			}
			from[f.path] = name
		case matchesSection(root.Type(), rest):
			text := "sets no key of the config"
			if meant := nearestEnv(rest, keys); meant != "" {
				text += ", perhaps " + envPrefix + meant + " is meant"
			}
			faults = append(faults, envFault{name: name, text: text})
		}
	}
	return from, faults
}

// field is a key's place in a config.
type field struct {
	value reflect.Value
	path  string
}

// collect lists every key that a variable can set, by the variable's name
// without the prefix.
func collect(v reflect.Value, path string, keys map[string]field) {
	for f, value := range v.Fields() {
		k := key(f)
		if k == "" {
			continue
		}
		p := strings.TrimPrefix(path+"."+k, ".")
		if value.Kind() == reflect.Struct && !isText(value.Type()) {
			collect(value, p, keys)
			continue
		}
		name := strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(p))
		keys[name] = field{value, p}
	}
}

// matchesSection reports whether a variable's name begins with a section.
func matchesSection(root reflect.Type, rest string) bool {
	for f := range root.Fields() {
		if s := strings.ToUpper(key(f)); s != "" && (rest == s || strings.HasPrefix(rest, s+"_")) {
			return true
		}
	}
	return false
}

func nearestEnv(name string, keys map[string]field) string {
	known := make([]string, 0, len(keys))
	for k := range keys {
		known = append(known, k)
	}
	slices.Sort(known)
	return nearest(name, known)
}

// set gives a key the value of a variable. Lists are separated by commas.
func set(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("must be true or false (got %q)", text)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("must be a whole number (got %q)", text)
		}
		v.SetInt(n)
	case reflect.Slice:
		return setList(v, text)
	default:
		return fmt.Errorf("cannot be set by a variable: set it in the file as %s", kindName(v.Type()))
	}
	return nil
}

func setList(v reflect.Value, text string) error {
	if e := v.Type().Elem(); e.Kind() == reflect.Struct && !isText(e) {
		return errors.New("is a list of tables, which no variable can hold: set it in the file")
	}
	list := reflect.MakeSlice(v.Type(), 0, 4)
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if err := set(e, item); err != nil {
			return err
		}
		list = reflect.Append(list, e)
	}
	v.Set(list)
	return nil
}
