//go:build !linux

package transport

func parkedState(Conn) (has, read bool) { return false, false }
