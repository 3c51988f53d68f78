package push_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// schema checks values against the part of JSON Schema that
// docs/push.schema.json uses; a keyword that it does not know is a fault.
type schema struct {
	root map[string]any
	defs map[string]any
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	text, err := os.ReadFile("../../docs/push.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	s := &schema{}
	if err := json.Unmarshal(text, &s.root); err != nil {
		t.Fatal(err)
	}
	s.defs = s.root["$defs"].(map[string]any)
	return s
}

// fault says how v breaks a rule; "" if it does not.
func (s *schema) fault(rule map[string]any, v any, at string) string {
	for keyword, want := range rule {
		if f := s.check(keyword, want, rule, v, at); f != "" {
			return f
		}
	}
	return ""
}

func (s *schema) check(keyword string, want any, rule map[string]any, v any, at string) string {
	bad := func(broken bool, format string, a ...any) string {
		if !broken {
			return ""
		}
		return at + ": " + fmt.Sprintf(format, a...)
	}
	object, _ := v.(map[string]any)
	text, _ := v.(string)
	number, _ := v.(float64)
	switch keyword {
	case "$schema", "$defs", "title", "description":
		return ""
	case "$ref":
		name, _ := strings.CutPrefix(want.(string), "#/$defs/")
		return s.fault(s.defs[name].(map[string]any), v, at)
	case "oneOf":
		var faults []string
		for _, one := range want.([]any) {
			if f := s.fault(one.(map[string]any), v, at); f != "" {
				faults = append(faults, f)
			}
		}
		return bad(len(faults) != len(want.([]any))-1, "fits %d of the kinds: %s", len(want.([]any))-len(faults), strings.Join(faults, "; "))
	case "type":
		return bad(kindOf(v, want.(string)) != want, "is %v, not %v", v, want)
	case "const":
		return bad(!reflect.DeepEqual(v, want), "is %v, not %v", v, want)
	case "enum":
		return bad(!slices.Contains(want.([]any), v), "is %v, not one of %v", v, want)
	case "pattern":
		return bad(!regexp.MustCompile(want.(string)).MatchString(text), "%q does not match %v", text, want)
	case "minimum":
		return bad(number < want.(float64), "%v is less than %v", v, want)
	case "required":
		for _, key := range want.([]any) {
			if _, ok := object[key.(string)]; !ok {
				return at + ": lacks " + key.(string)
			}
		}
		return ""
	case "properties":
		for key, one := range want.(map[string]any) {
			if value, ok := object[key]; ok {
				if f := s.fault(one.(map[string]any), value, at+"."+key); f != "" {
					return f
				}
			}
		}
		return ""
	case "additionalProperties":
		for key := range object {
			_, named := rule["properties"].(map[string]any)[key]
			if f := bad(!named && want == false, "has %s", key); f != "" {
				return f
			}
		}
		return ""
	}
	return at + ": this test does not know the keyword " + keyword
}

// kindOf names the kind of v, integer where that is wanted of a whole number.
func kindOf(v any, want string) string {
	switch v := v.(type) {
	case map[string]any:
		return "object"
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		if want == "integer" && v == float64(int64(v)) {
			return want
		}
		return "number"
	}
	return "null"
}

// strings in FCM's data stand for what they are elsewhere.
func undata(data map[string]any) map[string]any {
	out := make(map[string]any, len(data))
	for k, v := range data {
		out[k] = v
		switch k {
		case "v", "count", "sent_at", "ring_until", "video":
			var typed any
			if json.Unmarshal([]byte(v.(string)), &typed) == nil {
				out[k] = typed
			}
		}
	}
	return out
}

func TestTheSchemaRefusesWhatNoPushHolds(t *testing.T) {
	s := readSchema(t)
	good := `{"aps":{},"v":1,"channel":"voip","event":"call","uuid":"a07e4c89-a575-505c-9878-42cb5b42c499","to":"sip:b@c","video":false,"sent_at":1,"ring_until":2}`
	for name, text := range map[string]string{
		"an unknown key":           strings.Replace(good, `"v":1`, `"v":1,"x":1`, 1),
		"another version":          strings.Replace(good, `"v":1`, `"v":2`, 1),
		"a missing key":            strings.Replace(good, `"video":false,`, ``, 1),
		"a time as text":           strings.Replace(good, `"sent_at":1`, `"sent_at":"1"`, 1),
		"a UUID of another kind":   strings.Replace(good, "505c", "405c", 1),
		"a call on the other side": strings.Replace(good, "voip", "message", 1),
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil || text == good {
			t.Fatal(name, err)
		}
		if s.fault(s.root, v, "push") == "" {
			t.Errorf("%s passes", name)
		}
	}
	var v any
	_ = json.Unmarshal([]byte(good), &v)
	if f := s.fault(s.root, v, "push"); f != "" {
		t.Error(f)
	}
}
