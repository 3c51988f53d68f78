package wsframe

// Held is how many bytes c holds for a message under way.
func Held(c *Cutter) int { return cap(c.payload) + cap(c.control) }
