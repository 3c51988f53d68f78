package loadgen

import (
	"bufio"
	"net"
	"strconv"
	"time"
)

// newServed is a flow that the other side opened, the core to the PBX, and may
// end.
func newServed(g *Generator, conn net.Conn) *flow {
	f := &flow{g: g, conn: conn, in: bufio.NewReaderSize(conn, 4096), via: "TCP", host: conn.LocalAddr().String()}
	f.over.Store(true)
	return f
}

// serve answers a request, for phones and for the PBX alike.
func (g *Generator) serve(f *flow, m *message) {
	now := time.Now()
	switch m.method {
	case "INVITE":
		g.ring(f, m, now)
	case "ACK":
		if c := g.callOf(m); c != nil {
			if acked := c.acked.Load(); acked > 0 {
				g.ack.Add(now.Sub(c.started) - time.Duration(acked))
			}
		}
	case "REGISTER":
		g.grant(f, m)
	case "MESSAGE":
		if c := g.callOf(m); c != nil {
			g.message.Add(now.Sub(c.started))
		}
		fallthrough
	default:
		g.reply(f, m, &reply{status: 200, reason: "OK", tag: "m"})
	}
}

// ring answers an INVITE with 180 and 200.
func (g *Generator) ring(f *flow, m *message, now time.Time) {
	if c := g.callOf(m); c != nil {
		g.invite.Add(now.Sub(c.started))
	}
	if p := f.phone.Load(); p != nil && p.invites != nil {
		p.came.Add(1)
		select {
		case p.invites <- arrival{string(m.callID), now}:
		default:
		}
	}
	r := &reply{status: 180, reason: "Ringing", tag: "u" + strconv.FormatUint(g.next.Add(1), 36), contact: f.contact(g.cfg.Desk)}
	g.reply(f, m, r)
	r.status, r.reason, r.headers, r.body = 200, "OK", "Supported: outbound, replaces, timer\r\n"+allow, offer
	g.reply(f, m, r)
}

// grant answers a REGISTER as a registrar that knows one contact for each.
func (g *Generator) grant(f *flow, m *message) {
	r := &reply{status: 200, reason: "OK", tag: "r"}
	if string(m.expires) != "0" && len(m.contact) > 0 && m.contact[0] != '*' {
		r.contact = string(m.contact)
		if param(m.contact[len(uriOf(m.contact)):], "expires") == nil {
			r.contact += ";expires=" + string(m.expires)
		}
	}
	g.reply(f, m, r)
}

func (g *Generator) reply(f *flow, m *message, r *reply) {
	if err := f.write(func(b []byte) []byte { return r.appendTo(b, m) }); err != nil {
		g.fault("answer: %v", err)
	}
}
