package sipproxy

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
	"sallyport/core/sipmsg"
)

// errFlowGone is the transport error of RFC 3261 §16.9 for a flow that ended
// with transactions on it.
var errFlowGone = errors.New("the flow is gone")

// A txTable holds the transactions of one hop. An idle hop holds no maps.
type txTable struct {
	mu     sync.Mutex
	server map[string]*serverTx // by serverKey; guarded by mu
	size   int                  // of the requests in server, in bytes; guarded by mu
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
	return branch + "|" + via.Host + ":" + strconv.Itoa(via.Port) + "|" + string(method)
}

func clientKey(branch string, method sip.RequestMethod) string {
	return branch + "|" + string(method)
}

// Bounds of the requests of one client whose transactions have not ended. A
// client that has not registered yet has little to ask.
const (
	maxPending         = 256
	maxPendingSize     = 1 << 20 // bytes
	maxPendingStranger = 128 << 10
	requestOverhead    = 4 << 10 // what a request without body is counted as
)

// takes says whether a hop may have one more request of that size pending.
// Called with its table's mu held. A PBX is not limited here.
func (p *Proxy) takes(from *peer, size int) bool {
	t := from.txs
	if !from.client() || len(t.server) == 0 {
		return true
	}
	limit := maxPendingSize
	if t.size+size > maxPendingStranger && len(p.loc.ByFlow(from.flow.ID())) == 0 {
		limit = maxPendingStranger
	}
	return len(t.server) < maxPending && t.size+size <= limit
}

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

	caller location.DeviceID // the client's device, once it is known who asks; set before the request goes on

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
	size := len(req.Body()) + requestOverhead
	if !p.takes(from, size) {
		t.mu.Unlock()
		_ = from.WriteMsg(sipmsg.Response(req, 503, ""))
		return nil
	}
	st := &serverTx{req: req, from: from}
	st.tx = sip.NewServerTx(key, req, from, p.quiet)
	if t.server == nil {
		t.server = make(map[string]*serverTx)
	}
	// Ready before anybody else can find it: another connection of the PBX may
	// bring the same request.
	if err := st.tx.Init(); err != nil {
		p.log.Debug("server transaction not started", "err", err)
	}
	t.server[key] = st
	t.size += size
	t.mu.Unlock()
	st.tx.OnTerminate(func(key string, _ error) {
		t.mu.Lock()
		delete(t.server, key)
		t.size -= size
		if len(t.server) == 0 {
			t.server = nil
		}
		t.mu.Unlock()
	})
	return st
}

// watch sees to it that a request other than INVITE is not left without any
// answer. Most have one by now, and need no timer.
func (st *serverTx) watch() {
	if st.req.IsInvite() {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.final {
		st.clock = time.AfterFunc(tryingAfter, st.late)
	}
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
	server, client := slices.Collect(maps.Values(t.server)), slices.Collect(maps.Values(t.client))
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
