package location

import (
	"log/slog"
	"strings"
)

// AOR is an address-of-record that redacts itself in logs. Handlers that are
// told not to redact (log.redact = false) print Reveal instead.
type AOR string

// LogValue keeps scheme, first letter and domain: enough to see which domain is
// in trouble, not who.
func (a AOR) LogValue() slog.Value { return slog.StringValue(redactAOR(string(a))) }

// Reveal returns the AOR in full.
func (a AOR) Reveal() string { return string(a) }

func redactAOR(aor string) string {
	scheme, rest, ok := strings.Cut(aor, ":")
	if !ok {
		return "…"
	}
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return scheme + ":…"
	}
	user := rest[:at]
	if len(user) > 3 {
		return scheme + ":" + user[:1] + "…" + rest[at:]
	}
	return scheme + ":…" + rest[at:]
}

// tail shows enough of an identifier to tell two apart.
func tail(s string) string {
	if len(s) < 12 {
		return "…"
	}
	return "…" + s[len(s)-6:]
}

// LogValue redacts the AOR and shows the end of the instance.
func (id DeviceID) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("aor", redactAOR(id.AOR)),
		slog.String("instance", tail(strings.TrimRight(id.Instance, `>"`))),
	)
}

// Reveal returns the id in full.
func (id DeviceID) Reveal() string { return id.String() }

// LogValue shows all of a token but its value.
func (t Token) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("provider", t.Provider),
		slog.String("kind", t.Kind),
		slog.String("app", t.App),
		slog.String("token", tail(t.Value)),
		slog.Bool("dead", t.Dead),
	)
}

// LogValue shows where a binding leads, and no address of the client.
func (b Binding) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Any("device", b.ID()),
		slog.Int("reg_id", b.RegID),
		slog.String("flow", b.Flow),
		slog.Time("expires", b.Expires),
	)
}
