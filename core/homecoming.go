package core

import (
	"sallyport/core/liveness"
	"sallyport/core/location"
	"sallyport/core/wake"
)

// homecoming is the waker as the SIP side has it: who comes back frees not only
// the calls that wait, but spares itself the pushes that do.
type homecoming struct {
	*wake.Waker
	s *Server
}

// Registered implements sipproxy.Waker. A device that registers in the
// background is still told of what is there for it.
func (h homecoming) Registered(device, flow string) {
	h.Waker.Registered(device, flow)
	id, ok := location.ParseDeviceID(device)
	if !ok {
		return
	}
	if d, ok := h.s.loc.Device(id); ok && h.s.proxy.State(d) == liveness.Foreground {
		h.s.pushes.Returned(device)
	}
}
