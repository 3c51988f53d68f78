package push

import (
	"log/slog"
	"strings"
	"time"
)

// audit writes the row of one push that a provider was sent: who, what, when,
// by which app, with which outcome and id. It holds no content and no token but
// the last six characters. How long rows are kept is the log's retention.
func (s *Service) audit(device, event string, r Result, took time.Duration) {
	s.log.Info("push", "audit", true, "device", who(device), "event", event,
		"app", r.App, "channel", r.Channel, "outcome", r.Outcome, "token", r.Token,
		"status", r.Status, "reason", r.Reason, "id", r.ID, "took", took)
}

// who is a device in a log line, "AOR INSTANCE". A handler that is told not to
// redact prints Reveal instead.
type who string

// LogValue shows the domain, and enough of the instance to tell two apart.
func (w who) LogValue() slog.Value {
	aor, instance, _ := strings.Cut(string(w), " ")
	scheme, rest, _ := strings.Cut(aor, ":")
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return slog.StringValue("…")
	}
	user := ""
	if at > 3 {
		user = rest[:1]
	}
	return slog.StringValue(scheme + ":" + user + "…" + rest[at:] + " " + Redact(strings.TrimRight(instance, `>"`)))
}

// Reveal returns the device in full.
func (w who) Reveal() string { return string(w) }
