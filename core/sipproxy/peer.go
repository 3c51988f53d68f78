package sipproxy

import (
	"net"
	"net/netip"
	"sync"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/downstream"
	"sallyport/core/sipmsg"
	"sallyport/core/upstream"
)

// A peer is the far end of a hop: one client's flow, or one connection to a
// PBX. It is the sip.Connection of every transaction on that hop, so what is
// sent to it goes down that flow or nowhere: nothing is ever dialled.
type peer struct {
	// Static after creation. Exactly one of flow and up is set.
	flow *downstream.Flow
	up   *upstream.Conn
	txs  *txTable // a flow's own; that of all PBX connections otherwise
	via  string   // transport in Via: TLS, WSS, TCP, UDP
	// again sends a response whose connection to the PBX has ended; nil for a
	// client, to whom nothing is ever dialled.
	again func(*sip.Response) error

	mu   sync.Mutex
	gone bool  // guarded by mu
	next *peer // where the client is now, after this flow ended; guarded by mu
}

func (p *Proxy) flowPeer(f *downstream.Flow) *peer {
	via, _ := f.Secure()
	return &peer{flow: f, via: via, txs: &txTable{}}
}

func (p *Proxy) upPeer(c *upstream.Conn) *peer {
	p.upMu.Lock()
	defer p.upMu.Unlock()
	if pe := p.ups[c]; pe != nil {
		return pe
	}
	pe := &peer{up: c, via: c.Transport(), txs: p.upTxs, again: p.answerAgain}
	select {
	case <-c.Done(): // Closed has been, or will find nothing
		pe.gone = true
	default:
		p.ups[c] = pe
	}
	return pe
}

// name says who it is in logs, without an address.
func (pe *peer) name() string {
	if pe.flow != nil {
		return pe.flow.ID()
	}
	return "upstream"
}

func (pe *peer) client() bool { return pe.flow != nil }

func (pe *peer) remote() netip.AddrPort {
	if pe.flow != nil {
		return pe.flow.Info().Remote
	}
	return pe.up.Remote()
}

func (pe *peer) setGone() {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	pe.gone = true
}

func (pe *peer) isGone() bool {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	return pe.gone
}

// WriteMsg implements sip.Connection.
func (pe *peer) WriteMsg(m sip.Message) error {
	var room [2048]byte // who sends copies what he is given
	if pe.flow != nil {
		if next := pe.successor(); next != nil {
			return next.WriteMsg(m)
		}
		return pe.flow.Send(sipmsg.Append(room[:0], m))
	}
	res, isResponse := m.(*sip.Response)
	if isResponse && pe.elsewhere(res) {
		return pe.again(res)
	}
	err := pe.up.Send(sipmsg.Append(room[:0], m))
	if isResponse && err != nil && pe.again != nil {
		return pe.again(res)
	}
	return err
}

// elsewhere says whether a response over UDP has to go to another port than
// the request came from: to that of the top Via, unless that asks for rport
// (RFC 3261 §18.2.2, RFC 3581 §4).
func (pe *peer) elsewhere(res *sip.Response) bool {
	via := res.Via()
	if pe.via != "UDP" || pe.again == nil || via == nil || via.Params.Has("rport") {
		return false
	}
	port := via.Port
	if port == 0 {
		port = 5060
	}
	return port != int(pe.up.Remote().Port())
}

// LocalAddr implements sip.Connection; nothing reads it.
func (pe *peer) LocalAddr() net.Addr { return &net.TCPAddr{} }

// Ref implements sip.Connection. A hop's life is not counted in transactions.
func (pe *peer) Ref(int) int { return 1 }

// TryClose implements sip.Connection; see Ref.
func (pe *peer) TryClose() (int, error) { return 1, nil }

// Close implements sip.Connection; see Ref.
func (pe *peer) Close() error { return nil }
