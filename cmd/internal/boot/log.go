package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
)

// Log says what is logged, and how.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // json or text
	Redact bool   // hide addresses, AORs and tokens
}

// levels are the names a config may use.
var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

func (l Log) validate() error {
	var faults []error
	if _, ok := levels[l.Level]; !ok {
		faults = append(faults, fmt.Errorf("log.level: must be debug, info, warn or error (got %q)", l.Level))
	}
	if !slices.Contains([]string{"json", "text"}, l.Format) {
		faults = append(faults, fmt.Errorf("log.format: must be json or text (got %q)", l.Format))
	}
	return errors.Join(faults...)
}

func (l Log) setLevel(v *slog.LevelVar) { v.Set(levels[l.Level]) }

// logger writes to w; level can be changed while it is in use.
func (l Log) logger(w io.Writer, level *slog.LevelVar) *slog.Logger {
	l.setLevel(level)
	options := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewJSONHandler(w, options)
	if l.Format == "text" {
		h = slog.NewTextHandler(w, options)
	}
	if !l.Redact {
		h = revealing{h}
	}
	return slog.New(h)
}

// revealing prints in full the values that redact themselves: those with a
// method Reveal.
type revealing struct{ next slog.Handler }

func (h revealing) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h revealing) Handle(ctx context.Context, r slog.Record) error {
	plain := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		plain.AddAttrs(reveal(a))
		return true
	})
	return h.next.Handle(ctx, plain)
}

func (h revealing) WithAttrs(attrs []slog.Attr) slog.Handler {
	plain := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		plain[i] = reveal(a)
	}
	return revealing{h.next.WithAttrs(plain)}
}

func (h revealing) WithGroup(name string) slog.Handler {
	return revealing{h.next.WithGroup(name)}
}

func reveal(a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindLogValuer, slog.KindAny:
		if v, ok := a.Value.Any().(interface{ Reveal() string }); ok {
			return slog.String(a.Key, v.Reveal())
		}
	case slog.KindGroup:
		group := slices.Clone(a.Value.Group())
		for i := range group {
			group[i] = reveal(group[i])
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}
	}
	return a
}
