package sipmsg

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/emiago/sipgo/sip"
)

// Response makes an answer of this server's own to req (RFC 3261 §8.2.6): Via,
// From, To, Call-ID and CSeq copied as they came, Record-Route too where the
// answer may make a dialog, an empty body, and above 100 a To tag. The tag
// follows from the request, so that own 180 and 200 agree and a retransmitted
// request is answered alike. An empty reason gets the usual phrase. Headers
// that a faulty request lacks are left out.
func Response(req *sip.Request, status int, reason string) *sip.Response {
	if reason == "" {
		reason = Reason(status)
	}
	res := sip.NewResponse(status, reason)
	if makesDialog(req.Method, status) {
		sip.CopyHeaders("Record-Route", req, res)
	}
	for _, name := range []string{"Via", "From"} {
		sip.CopyHeaders(name, req, res)
	}
	if to := responseTo(req, status); to != nil {
		res.AppendHeader(to)
	}
	for _, name := range []string{"Call-ID", "CSeq"} {
		sip.CopyHeaders(name, req, res)
	}
	if status == 100 {
		sip.CopyHeaders("Timestamp", req, res)
	}
	res.SetBody(nil)
	res.SetTransport(req.Transport())
	res.SetDestination(req.Source())
	return res
}

// makesDialog says whether Record-Route belongs into the answer (RFC 3261
// §12.1.1, §20 table 3).
func makesDialog(method sip.RequestMethod, status int) bool {
	if method == sip.REGISTER || method == sip.ACK || method == sip.CANCEL {
		return false
	}
	return status > 100 && status < 300
}

// responseTo is the request's To with a tag, its text otherwise unchanged. A
// tag may follow every form of To: brackets, parameters, or a bare URI.
func responseTo(req *sip.Request, status int) sip.Header {
	h := req.GetHeader("to")
	if h == nil {
		return nil
	}
	n, err := ParseNameAddr(h.Value())
	if status == 100 || err != nil || n.Params.Has("tag") {
		return sip.HeaderClone(h)
	}
	b := builder{msg: sip.NewResponse(status, "")}
	b.to(n.Raw + ";tag=" + Tag(req))
	if b.fault != nil {
		return sip.HeaderClone(h)
	}
	return b.msg.GetHeaders("to")[0]
}

// Tag is the To tag of this server's answers to req: a hash of what makes its
// transaction, the same for its retransmissions and its CANCEL.
func Tag(req *sip.Request) string {
	hash := sha256.New()
	for _, name := range []string{"call-id", "from"} {
		if h := req.GetHeader(name); h != nil {
			hash.Write([]byte(h.Value()))
		}
		hash.Write([]byte{0})
	}
	if via := req.Via(); via != nil {
		branch, _ := via.Params.Get("branch")
		hash.Write([]byte(branch))
	}
	if cseq := req.CSeq(); cseq != nil {
		hash.Write(strconv.AppendUint([]byte{0}, uint64(cseq.SeqNo), 10))
	}
	return hex.EncodeToString(hash.Sum(nil)[:8])
}
