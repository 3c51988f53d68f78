package wake

// CanCall says whether a call could be announced to d now: push is on and one
// of its tokens fits an app for the VoIP channel.
func (w *Waker) CanCall(d Device) bool { return w.p != nil && w.p.CanCall(d.target()) }

// CanNote is CanCall for the Message channel.
func (w *Waker) CanNote(d Device) bool { return w.p != nil && w.p.CanNote(d.target()) }
