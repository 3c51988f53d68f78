package sipproxy

import (
	"sync"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
)

// Bounds of what is kept for a sleeping device.
const (
	maxPackages = 8
	maxNotes    = 20000 // devices
)

// notes keeps, for devices that sleep, the newest unsolicited NOTIFY of each
// event package (B27). They are state, not history: memory is enough.
type notes struct {
	mu sync.Mutex
	of map[location.DeviceID]map[string]*sip.Request // guarded by mu
}

func (n *notes) keep(id location.DeviceID, req *sip.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.of == nil {
		n.of = make(map[location.DeviceID]map[string]*sip.Request)
	}
	kept := n.of[id]
	if kept == nil {
		if len(n.of) >= maxNotes {
			return
		}
		kept = make(map[string]*sip.Request)
		n.of[id] = kept
	}
	pkg := headerValue(req, "Event")
	if _, known := kept[pkg]; known || len(kept) < maxPackages {
		kept[pkg] = req
	}
}

func (n *notes) take(id location.DeviceID) map[string]*sip.Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept := n.of[id]
	delete(n.of, id)
	return kept
}

func (n *notes) drop(id location.DeviceID) { n.take(id) }

// deliverNotes sends a device that is back what was kept for it.
func (p *Proxy) deliverNotes(id location.DeviceID, to *peer) {
	for _, req := range p.notes.take(id) {
		l := p.newLeg(id, req, false)
		l.pbxVia = "TCP"
		out, ok := p.toClient(l, to)
		if !ok {
			continue
		}
		if _, err := p.request(to, out, func(*sip.Response) {}, func(error) {}); err != nil {
			p.log.Debug("notify not delivered", "flow", to.name(), "err", err)
		}
	}
}
