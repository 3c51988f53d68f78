package pushtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// A shape says which JSON value a field of FCM's REST reference takes, and
// returns what is wrong with one, "" when nothing is.
type shape func(path string, v json.RawMessage) string

// object takes the named fields, in snake_case or in lowerCamelCase as
// protocol buffers do, and no others.
func object(fields map[string]shape) shape {
	return func(path string, v json.RawMessage) string {
		got, fault := members(path, v)
		for _, name := range sortedKeys(got) {
			if fault != "" {
				break
			}
			field, known := fields[snake(name)]
			if !known {
				return fmt.Sprintf("Invalid JSON payload received. Unknown name %q%s: Cannot find field.", name, at(path))
			}
			fault = field(join(path, snake(name)), got[name])
		}
		return fault
	}
}

func at(path string) string {
	if path == "" {
		return ""
	}
	return fmt.Sprintf(" at '%s'", path)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// members takes an object apart.
func members(path string, v json.RawMessage) (map[string]json.RawMessage, string) {
	var got map[string]json.RawMessage
	if bytes.Equal(bytes.TrimSpace(v), []byte("null")) || json.Unmarshal(v, &got) != nil {
		return nil, fmt.Sprintf("Invalid value%s, an object is expected", at(path))
	}
	return got, ""
}

func sortedKeys(m map[string]json.RawMessage) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// snake is a field's name as the reference has it.
func snake(name string) string {
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

func text(path string, v json.RawMessage) string {
	var s *string
	if json.Unmarshal(v, &s) != nil || s == nil {
		return fmt.Sprintf("Invalid value at '%s' (TYPE_STRING), %s", path, brief(v))
	}
	return ""
}

func boolean(path string, v json.RawMessage) string {
	var b *bool
	if json.Unmarshal(v, &b) != nil || b == nil {
		return fmt.Sprintf("Invalid value at '%s' (TYPE_BOOL), %s", path, brief(v))
	}
	return ""
}

// stringMap takes an object whose values are strings.
func stringMap(path string, v json.RawMessage) string {
	got, fault := members(path, v)
	for i, name := range sortedKeys(got) {
		if fault == "" {
			fault = text(fmt.Sprintf("%s[%d].value", path, i), got[name])
		}
	}
	return fault
}

// unchecked takes whatever JSON there is.
func unchecked(string, json.RawMessage) string { return "" }

func brief(v json.RawMessage) string {
	const enough = 40
	if len(v) > enough {
		return strings.ToValidUTF8(string(v[:enough]), "") + "…"
	}
	return string(v)
}

// all gives one shape to several fields.
func all(s shape, names ...string) map[string]shape {
	out := make(map[string]shape, len(names))
	for _, n := range names {
		out[n] = s
	}
	return out
}

// sendRequest is the body of messages:send, and message what it holds.
var sendRequest = object(map[string]shape{"validate_only": boolean, "message": object(message)})

var message = map[string]shape{
	"name": text, "token": text, "topic": text, "condition": text,
	"data":         stringMap,
	"notification": object(all(text, "title", "body", "image")),
	"android":      object(android),
	"webpush":      object(map[string]shape{"headers": stringMap, "data": stringMap, "notification": unchecked, "fcm_options": unchecked}),
	"apns":         object(map[string]shape{"headers": stringMap, "payload": unchecked, "fcm_options": unchecked, "live_activity_token": text}),
	"fcm_options":  object(all(text, "analytics_label")),
}

var android = map[string]shape{
	"collapse_key": text, "priority": oneOf("AndroidMessagePriority", "normal", "high", "NORMAL", "HIGH"), "ttl": duration,
	"restricted_package_name": text, "data": stringMap, "notification": object(androidNotification),
	"fcm_options": object(all(text, "analytics_label")), "direct_boot_ok": boolean,
	"bandwidth_constrained_ok": boolean, "restricted_satellite_ok": boolean,
}

var androidNotification = func() map[string]shape {
	out := all(text, "title", "body", "icon", "color", "sound", "tag", "click_action", "body_loc_key", "title_loc_key",
		"channel_id", "ticker", "event_time", "image")
	for _, n := range []string{"sticky", "local_only", "default_sound", "default_vibrate_timings", "default_light_settings", "bypass_proxy_notification"} {
		out[n] = boolean
	}
	for _, n := range []string{"body_loc_args", "title_loc_args", "notification_priority", "vibrate_timings", "visibility", "notification_count", "light_settings"} {
		out[n] = unchecked
	}
	out["proxy"] = oneOf("Proxy", "ALLOW", "DENY", "IF_PRIORITY_LOWERED", "allow", "deny", "if_priority_lowered")
	return out
}()

// oneOf takes the names of an enumeration, spelled as given.
func oneOf(enum string, names ...string) shape {
	return func(path string, v json.RawMessage) string {
		var s string
		if json.Unmarshal(v, &s) != nil || !slices.Contains(names, s) {
			return fmt.Sprintf("Invalid value at '%s' (type.googleapis.com/google.firebase.fcm.v1.%s), %s", path, enum, brief(v))
		}
		return ""
	}
}

// duration takes seconds with up to nine decimals and an s.
func duration(path string, v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		if _, ok := parseTTL(s); ok {
			return ""
		}
	}
	return fmt.Sprintf("Invalid value at '%s' (type.googleapis.com/google.protobuf.Duration), %s", path, brief(v))
}
