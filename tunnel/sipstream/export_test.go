package sipstream

// Held is the size of the buffer that c keeps.
func Held(c *Cutter) int { return cap(c.buf) }
