package sipproxy

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/sipmsg"
)

// errFlowGone is the transport error of RFC 3261 §16.9 for a flow that ended
// with transactions on it.
var errFlowGone = errors.New("the flow is gone")

// A txTable holds the transactions of one hop. An idle hop holds no maps.
type txTable struct {
	mu     sync.Mutex
	server map[string]*serverTx // by serverKey; guarded by mu
	client map[string]*clientTx // by branch and method; guarded by mu
}

// serverKey is the match of RFC 3261 §17.2.3: branch, sent-by and method. An
// ACK for a non-2xx and a CANCEL look for their INVITE. A branch without the
// magic cookie is not unique, and is joined by what RFC 2543 matched by.
func serverKey(req *sip.Request, method sip.RequestMethod) string {
	via := req.Via()
	branch, _ := via.Params.Get("branch")
	if !strings.HasPrefix(branch, sip.RFC3261BranchMagicCookie) {
		tag, seq := "", uint32(0)
		if from := req.From(); from != nil {
			tag, _ = from.Params.Get("tag")
		}
		if c := req.CSeq(); c != nil {
			seq = c.SeqNo
		}
		branch = fmt.Sprintf("%s|%s|%s|%s|%d", branch, req.Recipient.String(), headerValue(req, "Call-ID"), tag, seq)
	}
	return fmt.Sprintf("%s|%s:%d|%s", branch, via.Host, via.Port, method)
}

func clientKey(branch string, method sip.RequestMethod) string {
	return branch + "|" + string(method)
}

// maxPending bounds the requests of one client that wait for an answer.
const maxPending = 256

// tryingAfter is when a request other than INVITE gets a 100: the time by
// which its sender's Timer E has reached T2 (RFC 4320 §4.1). answerWithin is
// when its sender gives up (Timer F): an answer would be of no use after that,
// so the transaction ends without one, and never with 408.
const (
	tryingAfter  = 3500 * time.Millisecond
	answerWithin = 64 * 500 * time.Millisecond
)

// A serverTx is a request somebody waits for an answer to.
type serverTx struct {
	// Static after creation.
	tx   *sip.ServerTx
	req  *sip.Request // as it came; never changed
	from *peer

	mu     sync.Mutex
	fork   *fork       // guarded by mu; nil until the request was forwarded
	final  bool        // a final response was handed to the transaction; guarded by mu
	answer int         // its status; guarded by mu
	clock  *time.Timer // of a request other than INVITE; guarded by mu
}

// accept makes the server transaction of a new request, or hands a repeated
// one to the transaction it belongs to and returns nil.
func (p *Proxy) accept(from *peer, req *sip.Request) *serverTx {
	key := serverKey(req, req.Method)
	t := from.txs
	t.mu.Lock()
	if old := t.server[key]; old != nil {
		t.mu.Unlock()
		_ = old.tx.Receive(req) // a retransmission: the machine repeats its answer
		return nil
	}
	if from.client() && len(t.server) >= maxPending {
		t.mu.Unlock()
		_ = from.WriteMsg(sipmsg.Response(req, 503, ""))
		return nil
	}
	st := &serverTx{req: req, from: from}
	st.tx = sip.NewServerTx(key, req, from, p.quiet)
	if t.server == nil {
		t.server = make(map[string]*serverTx)
	}
	t.server[key] = st
	t.mu.Unlock()
	if err := st.tx.Init(); err != nil {
		p.log.Debug("server transaction not started", "err", err)
	}
	st.tx.OnTerminate(func(key string, _ error) {
		t.mu.Lock()
		delete(t.server, key)
		if len(t.server) == 0 {
			t.server = nil
		}
		t.mu.Unlock()
	})
	if !req.IsInvite() {
		st.mu.Lock()
		st.clock = time.AfterFunc(tryingAfter, st.late)
		st.mu.Unlock()
	}
	return st
}

// late is called when a request other than INVITE has no answer yet: at
// tryingAfter with a 100, and at answerWithin for good.
func (st *serverTx) late() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.final {
		return
	}
	if st.answer == 100 {
		st.final = true
		st.tx.Terminate()
		return
	}
	st.answer = 100
	res := sipmsg.Response(st.req, 100, "")
	res.SetTransport(st.from.via)
	_ = st.tx.Respond(res)
	st.clock.Reset(answerWithin - tryingAfter)
}

// invite returns the INVITE transaction that an ACK or CANCEL belongs to.
func (t *txTable) invite(req *sip.Request) *serverTx {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.server[serverKey(req, sip.INVITE)]
}

// respond hands res to whoever asked. A final response after a final one is
// dropped, but for a 2xx to INVITE, which always goes out (RFC 3261 §16.7 5);
// a provisional one is too.
func (st *serverTx) respond(res *sip.Response) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.final {
		if res.IsSuccess() && st.req.IsInvite() {
			_ = st.from.WriteMsg(res) // outside the machine, which would drop it
		}
		return
	}
	if res.StatusCode >= 200 {
		st.final, st.answer = true, res.StatusCode
		if st.clock != nil {
			st.clock.Stop()
		}
	}
	_ = st.tx.Respond(res)
}

// answered returns the status of the final response, 0 when there is none yet.
func (st *serverTx) answered() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.final {
		return 0
	}
	return st.answer
}

// setFork says that f answers from now on, unless there is an answer already:
// a CANCEL may come before the request was forwarded.
func (st *serverTx) setFork(f *fork) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.final {
		st.fork = f
	}
	return !st.final
}

func (st *serverTx) getFork() *fork { st.mu.Lock(); defer st.mu.Unlock(); return st.fork }

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
	ct.tx = sip.NewClientTx(key, req, to, p.quiet)
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

// lose fails the client transactions that were sent to pe.
func (t *txTable) lose(pe *peer) {
	t.mu.Lock()
	pe.setGone()
	var lost []*clientTx
	for _, ct := range t.client {
		if ct.to == pe {
			lost = append(lost, ct)
		}
	}
	t.mu.Unlock()
	for _, ct := range lost {
		ct.fail(errFlowGone)
	}
}

// closeAll ends every transaction of the table, for the end of the proxy. Who
// still waits for an answer gets 503.
func (t *txTable) closeAll() {
	t.mu.Lock()
	var server []*serverTx
	for _, st := range t.server {
		server = append(server, st)
	}
	var client []*clientTx
	for _, ct := range t.client {
		client = append(client, ct)
	}
	t.mu.Unlock()
	for _, st := range server {
		st.reply(503, "") // whatever has no answer yet
		st.tx.Terminate()
	}
	for _, ct := range client {
		ct.fail(errFlowGone)
	}
}

const alphabet = "abcdefghijklmnopqrstuvwxyz234567"

// random returns n letters and digits that nobody can guess.
func random(n int) string {
	buf := make([]byte, n)
	_, _ = rand.Read(buf) // never fails (crypto/rand)
	for i, b := range buf {
		buf[i] = alphabet[b&31]
	}
	return string(buf)
}

func newTag() string { return random(12) }

// shortHash folds s into six characters, for the loop check in our branch.
func shortHash(sum [32]byte) string {
	v := binary.BigEndian.Uint32(sum[:4])
	out := make([]byte, 6)
	for i := range out {
		out[i] = alphabet[v&31]
		v >>= 5
	}
	return string(out)
}
