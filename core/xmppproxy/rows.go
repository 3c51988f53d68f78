package xmppproxy

import (
	"slices"
	"strings"
	"time"

	"sallyport/core/downstream"
	"sallyport/core/xmppproxy/session"
)

// Row is one session, for an operator.
type Row struct {
	JID   string // full
	State session.State
	Since time.Time // of the client, or of its loss
	Held  int       // stanzas that wait
	Bytes int       // of them
	Flow  *downstream.Flow
}

// Rows lists the sessions of a bare JID, or all for "", by JID.
func (p *Proxy) Rows(bare string) []Row {
	var rows []Row
	add := func(l *line) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.gone || l.s == nil || l.s.State() == session.Ended {
			return
		}
		r := Row{JID: l.JID(), State: l.s.State(), Since: l.s.Since(), Held: l.s.Held(), Bytes: l.s.HeldBytes()}
		if l.conn != nil {
			r.Flow = l.conn.flow
		}
		rows = append(rows, r)
	}
	if bare == "" {
		p.lines.each(add)
	} else {
		for _, l := range p.lines.of(bare) {
			add(l)
		}
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.JID, b.JID) })
	return rows
}
