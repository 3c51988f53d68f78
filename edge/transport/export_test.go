package transport

// OwnFrames has t frame every WebSocket as it does parked ones, over whatever
// connection.
func OwnFrames(t *Transport) { t.ownFrames = true }

// Parked reports whether c has a place where sockets are parked, and whether
// somebody reads it now.
func Parked(c Conn) (has, read bool) { return parkedState(c) }
