package wake

import "sallyport/core/push"

// CanCall says whether a call could be announced to d now: push is on and one
// of its tokens fits an app for the VoIP channel.
func (w *Waker) CanCall(d Device) bool { return w.p != nil && w.p.CanCall(d.target()) }

// CanNote is CanCall for the Message channel.
func (w *Waker) CanNote(d Device) bool { return w.p != nil && w.p.CanNote(d.target()) }

// quieter is a [Pusher] that knows quiet hours. It would refuse the call's push
// all the same, but not before the push was counted and told.
type quieter interface {
	QuietCall(t push.Target, c push.Call) push.Ruling
}

// quiet says why d must not ring for c now; "" if it may.
func (w *Waker) quiet(d Device, c push.Call) string {
	q, ok := w.p.(quieter)
	if !ok {
		return ""
	}
	if r := q.QuietCall(d.target(), c); r.Hold {
		return r.Reason
	}
	return ""
}
