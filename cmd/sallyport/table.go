package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// table writes columns for people. Every cell is cleaned.
type table struct{ w *tabwriter.Writer }

// newTable begins a table with a line of headings, if there are any.
func newTable(w io.Writer, headings ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	if len(headings) > 0 {
		t.row(headings...)
	}
	return t
}

// row adds a line; an empty cell is shown as "-".
func (t *table) row(cells ...string) {
	for i, c := range cells {
		if c == "" {
			c = "-"
		}
		cells[i] = clean(c)
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

func (t *table) end() { _ = t.w.Flush() }

// clean takes out of a text what would act on a terminal: much of what the
// core shows was written by callers.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// when shows a time to the second, in the console's zone; "" for none.
func (c *console) when(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.In(c.zone).Format(time.DateTime)
}

// okOr names a state by whether it is good.
func okOr(ok bool, bad string) string {
	if ok {
		return "ok"
	}
	return bad
}
