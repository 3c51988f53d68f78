package admission

// Known is the number of addresses that g remembers.
func Known(g *Gate) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.byIP)
}
