//go:build !linux

package transport

import "net"

// lot is empty: only Linux parks.
type lot struct{}

func newLot() *lot { return nil }

func (t *Transport) paced(c net.Conn) net.Conn { return &paced{Conn: c, timeout: t.cfg.WriteTimeout} }
func (*Transport) park(net.Conn, reader) bool  { return false }

func parkable(net.Conn) bool { return false }

func pool(net.Conn) interface{ hand(Task) } { return nil }
