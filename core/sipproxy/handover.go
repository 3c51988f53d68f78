package sipproxy

import (
	"maps"
	"slices"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
)

// A caller may change networks while it hears ringing: its flow ends and it
// registers on another. Its call goes on there. A caller that does not come
// back within the reconnect grace has hung up.

// orphans looks after the calls that a flow which ended was setting up.
func (p *Proxy) orphans(pe *peer, ids []location.DeviceID) {
	for _, st := range pe.txs.callsUp() {
		h := &handover{back: make(chan *peer, 1)}
		var unwatch []func()
		for _, id := range ids {
			unwatch = append(unwatch, p.watch(id, h))
		}
		leave := func() {
			for _, f := range unwatch {
				f()
			}
		}
		if !p.calls.Go(func() { defer leave(); p.rejoin(st, pe, ids, h) }) {
			leave()
		}
	}
}

// handover waits for the first flow that an instance registers on.
type handover struct{ back chan *peer }

func (h *handover) flowUp(pe *peer) {
	select {
	case h.back <- pe:
	default:
	}
}

func (p *Proxy) rejoin(st *serverTx, old *peer, ids []location.DeviceID, h *handover) {
	for _, id := range ids { // it may have come back before we heard that it went
		if dev, ok := p.loc.Device(id); ok {
			if pe := p.peerOf(dev); pe != nil && pe != old {
				h.flowUp(pe)
			}
		}
	}
	grace := time.NewTimer(p.cfg.ReconnectGrace)
	defer grace.Stop()
	select {
	case pe := <-h.back:
		old.follow(pe)
		pe.txs.adopt(st)
		p.log.Info("call moved to the caller's next flow", "from", old.name(), "to", pe.name())
	case <-grace.C:
		if f := st.getFork(); f != nil && st.answered() == 0 {
			f.cancel("")
		}
	case <-p.ctx.Done():
	}
}

// callsUp are the INVITE transactions without a final answer.
func (t *txTable) callsUp() (sts []*serverTx) {
	t.mu.Lock()
	pending := slices.Collect(maps.Values(t.server))
	t.mu.Unlock() // a transaction's lock is taken before its table's
	for _, st := range pending {
		if st.req.IsInvite() && st.answered() == 0 && st.getFork() != nil {
			sts = append(sts, st)
		}
	}
	return sts
}

// adopt lets a transaction of another flow be found here, by its CANCEL.
func (t *txTable) adopt(st *serverTx) {
	key := serverKey(st.req, sip.INVITE)
	t.mu.Lock()
	if t.server == nil {
		t.server = make(map[string]*serverTx)
	}
	if t.server[key] == nil {
		t.server[key] = st
	}
	t.mu.Unlock()
	drop := func(string, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.server[key] == st {
			delete(t.server, key)
		}
	}
	if !st.tx.OnTerminate(drop) {
		drop("", nil)
	}
}

// follow says that what is for pe goes to its client's next flow.
func (pe *peer) follow(next *peer) {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	if next != pe {
		pe.next = next
	}
}

// successor is the flow that a client whose flow ended is on now, or nil.
func (pe *peer) successor() *peer {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	return pe.next
}
