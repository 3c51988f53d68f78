package sipproxy

import (
	"fmt"
	"sync"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/sipmsg"
)

// A clientTx is a request we sent and its listener.
type clientTx struct {
	tx  *sip.ClientTx
	req *sip.Request
	to  *peer

	mu      sync.Mutex
	ends    error         // why it failed, when no response did; guarded by mu
	refused *sip.Response // an INVITE's final response, if no 2xx; guarded by mu
}

// request sends req to a hop in a client transaction of its own. Each
// response, in order, and at the end one error (nil when a final response
// came) go to the listener, on a goroutine of the transaction; but a repeated
// 2xx to an INVITE comes on the hop's.
func (p *Proxy) request(to *peer, req *sip.Request, hear func(*sip.Response), end func(error)) (*clientTx, error) {
	branch, _ := req.Via().Params.Get("branch")
	key := clientKey(branch, req.Method)
	ct := &clientTx{req: req, to: to}
	ct.tx = sip.NewClientTx(key, req, oneViaACK{to}, p.quiet)
	t := to.txs
	t.mu.Lock()
	if to.isGone() {
		t.mu.Unlock()
		return nil, errFlowGone
	}
	if t.client == nil {
		t.client = make(map[string]*clientTx)
	}
	t.client[key] = ct
	t.mu.Unlock()
	drop := func() {
		t.mu.Lock()
		delete(t.client, key)
		if len(t.client) == 0 {
			t.client = nil
		}
		t.mu.Unlock()
	}
	ct.tx.OnRetransmission(func(res *sip.Response) { hear(res) }) // of a 2xx to INVITE (RFC 6026 §7.2)
	if err := ct.tx.Init(); err != nil {
		drop()
		ct.tx.Terminate()
		return nil, fmt.Errorf("send %s: %w", req.Method, err)
	}
	p.txs.Go(func() {
		defer drop()
		ct.listen(hear, end)
	})
	return ct, nil
}

// oneViaACK is a hop for the machine of an INVITE, which copies all Via headers
// into its ACK where only the top one belongs (RFC 3261 §17.1.1.3).
type oneViaACK struct{ *peer }

// WriteMsg implements sip.Connection.
func (c oneViaACK) WriteMsg(m sip.Message) error {
	if ack, ok := m.(*sip.Request); ok && ack.IsAck() && len(sipmsg.All(ack, "Via")) > 1 {
		top := ack.Via()
		sipmsg.Remove(ack, "Via")
		ack.PrependHeader(top)
	}
	return c.peer.WriteMsg(m)
}

func (ct *clientTx) listen(hear func(*sip.Response), end func(error)) {
	final := false
	for {
		select {
		case res := <-ct.tx.Responses():
			hear(res)
			final = final || res.StatusCode >= 200
		case <-ct.tx.Done():
			var err error
			if !final {
				if err = ct.failure(); err == nil {
					err = ct.tx.Err()
				}
				if err == nil {
					err = sip.ErrTransactionTerminated
				}
			}
			end(err)
			return
		}
	}
}

// fail ends the transaction with a transport error.
func (ct *clientTx) fail(err error) {
	ct.mu.Lock()
	if ct.ends == nil {
		ct.ends = err
	}
	ct.mu.Unlock()
	ct.tx.Terminate()
}

func (ct *clientTx) failure() error { ct.mu.Lock(); defer ct.mu.Unlock(); return ct.ends }

// receive hands a response to the transaction it answers, and says whether
// there is one. A stray response is nobody's and is not forwarded (RFC 6026 §7.3).
func (t *txTable) receive(res *sip.Response) bool {
	via, cseq := res.Via(), res.CSeq()
	if via == nil || cseq == nil {
		return false
	}
	branch, _ := via.Params.Get("branch")
	t.mu.Lock()
	ct := t.client[clientKey(branch, cseq.MethodName)]
	t.mu.Unlock()
	if ct == nil {
		return false
	}
	if ct.confirmed(res) {
		return true
	}
	ct.tx.Receive(res)
	return true
}

// confirmed answers a repeated refusal of an INVITE with its ACK. The machine
// would do that too, but sleeps for seconds first, on the hop's own reader.
func (ct *clientTx) confirmed(res *sip.Response) bool {
	if !ct.req.IsInvite() || res.StatusCode < 300 {
		return false
	}
	ct.mu.Lock()
	again := ct.refused != nil
	if !again {
		ct.refused = res
	}
	ct.mu.Unlock()
	if again {
		_ = ct.to.WriteMsg(ackOf(ct.req, res))
	}
	return again
}
