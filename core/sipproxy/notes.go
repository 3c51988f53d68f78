package sipproxy

import (
	"sync"
	"sync/atomic"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/liveness"
	"sallyport/core/location"
)

// Bounds of what is kept for sleeping devices.
const (
	maxPackages  = 8        // of one device
	maxNoteSize  = 16 << 10 // of one NOTIFY
	maxNotesSize = 32 << 20 // of all
	noteOverhead = 2 << 10  // what a NOTIFY without body is counted as
)

// notes keeps, for devices that do not look, the newest unsolicited NOTIFY of
// each event package (B27), and of each of their subscriptions. They are state,
// not history: memory is enough, and where it is used up, the PBX tells the state
// again when the device is back, or subscribes anew.
type notes struct {
	devices atomic.Int64 // len(of)

	mu   sync.Mutex
	size int                                 // guarded by mu
	of   map[location.DeviceID][]keptRequest // in the order in which packages came first; guarded by mu
}

// keptRequest is a request that was answered for the device.
type keptRequest struct {
	event string // the package, if unsolicited
	sub   string // the subscription: dialog and event; "" if unsolicited
	kind  noteKind
	seq   uint32 // CSeq
	st    *serverTx
	route []sip.Header // within a dialog
	token string       // of the client it came from, in a stand-alone domain
	bytes int
}

// keptSize is what a request takes in memory, about.
func keptSize(req *sip.Request) int {
	n := len(req.Body()) + noteOverhead
	for _, h := range req.Headers() {
		n += len(h.Value())
	}
	return n
}

// keep takes the place of the package's older NOTIFY, if there is room.
func (n *notes) keep(id location.DeviceID, st *serverTx, caller *location.Binding) {
	k := keptRequest{event: headerValue(st.req, "Event"), st: st, bytes: keptSize(st.req)}
	if caller != nil {
		k.token = caller.Token
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.of[id]
	at, packages := len(list), 0
	grows := k.bytes
	for i := range list {
		if list[i].sub == "" && list[i].event == k.event {
			at, grows = i, k.bytes-list[i].bytes
		}
		if list[i].sub == "" && at == len(list) {
			packages++
		}
	}
	if k.bytes > maxNoteSize || packages >= maxPackages || n.size+grows > maxNotesSize {
		return
	}
	if at == len(list) {
		list = append(list, k)
	} else {
		list[at] = k
	}
	n.put(id, list, grows)
}

// put notes what is kept for a device. Under n.mu.
func (n *notes) put(id location.DeviceID, list []keptRequest, grows int) {
	if n.of == nil {
		n.of = make(map[location.DeviceID][]keptRequest)
	}
	n.of[id] = list
	n.size += grows
	n.devices.Store(int64(len(n.of)))
}

func (n *notes) take(id location.DeviceID) []keptRequest {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.of[id]
	for _, k := range list {
		n.size -= k.bytes
	}
	delete(n.of, id)
	n.devices.Store(int64(len(n.of)))
	return list
}

func (n *notes) drop(id location.DeviceID) { n.take(id) }

// attentive delivers what was kept for the devices on a flow whose client
// looks again.
func (p *Proxy) attentive(pe *peer) {
	p.readers(pe)
	p.backPublished(pe)
	if p.notes.devices.Load() == 0 {
		return
	}
	for _, b := range p.loc.ByFlow(pe.flow.ID()) {
		dev, ok := p.loc.Device(b.ID())
		if ok && p.peerOf(dev) == pe && p.stateOn(dev, pe) == liveness.Foreground {
			p.deliverNotes(dev.ID, pe)
		}
	}
}

// deliverNotes sends a device that is back what was kept for it.
func (p *Proxy) deliverNotes(id location.DeviceID, to *peer) {
	for _, k := range p.notes.take(id) {
		l := p.newLeg(id, k.st.req, k.sub != "")
		l.client, l.pbxVia, l.routes = k.st.from.client(), k.st.from.via, k.route
		if k.token != "" {
			l.from, l.fromToken = k.st.from, k.token
		}
		out, ok := p.toClient(l, to)
		if !ok {
			continue
		}
		if _, err := p.request(to, out, func(*sip.Response) {}, func(error) {}); err != nil {
			p.log.Debug("notify not delivered", "flow", to.name(), "err", err)
		}
	}
}
