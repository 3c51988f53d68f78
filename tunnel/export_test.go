package tunnel

// SpeakFormer makes an edge speak the minor version before this one: without
// resume, several links and narrow flows.
func (a *Acceptor) SpeakFormer() { a.t.minor, a.t.features = former, 0 }

// SpeakFormer makes a core speak the minor version before this one.
func (d *Dialer) SpeakFormer() { d.t.minor, d.t.features = former, 0 }

const former = maxMinor - 1
