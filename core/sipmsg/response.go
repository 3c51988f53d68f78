package sipmsg

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/emiago/sipgo/sip"
)

// Response makes an answer of this server's own to req (RFC 3261 §8.2.6): Via,
// From, To, Call-ID and CSeq copied as they came, Record-Route too where the
// answer may make a dialog, an empty body, and above 100 a To tag. Headers are
// the request's own, not to be changed, in its order. The tag
// follows from the request, so that own 180 and 200 agree and a retransmitted
// request is answered alike. An empty reason gets the usual phrase. Headers
// that a faulty request lacks are left out.
func Response(req *sip.Request, status int, reason string) *sip.Response {
	if reason == "" {
		reason = Reason(status)
	}
	res := sip.NewResponse(status, reason)
	routed := makesDialog(req.Method, status)
	for _, h := range req.Headers() {
		switch name := h.Name(); {
		case name == "Via", name == "From", name == "Call-ID", name == "CSeq",
			name == "Record-Route" && routed, name == "Timestamp" && status == 100:
			res.AppendHeader(h)
		case name == "To":
			res.AppendHeader(responseTo(req, h, status))
		}
	}
	res.SetBody(nil)
	res.SetTransport(req.Transport())
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
func responseTo(req *sip.Request, h sip.Header, status int) sip.Header {
	if status == 100 {
		return h
	}
	if to, ok := h.(*sip.ToHeader); ok {
		if to.Params.Has("tag") {
			return h
		}
		tagged := *to
		tagged.Params = make(sip.HeaderParams, 0, len(to.Params)+1)
		tagged.Params = append(append(tagged.Params, to.Params...), sip.HeaderKV{K: "tag", V: Tag(req)})
		return &tagged
	}
	n, err := ParseNameAddr(h.Value())
	if err != nil || n.Params.Has("tag") {
		return h
	}
	b := builder{msg: sip.NewResponse(status, "")}
	b.to(n.Raw + ";tag=" + Tag(req))
	if b.fault != nil {
		return h
	}
	return Find(b.msg, "To")
}

// Tag is the To tag of this server's answers to req: a hash of what makes its
// transaction, the same for its retransmissions and its CANCEL.
func Tag(req *sip.Request) string {
	text := make([]byte, 0, 512)
	for _, name := range []string{"Call-ID", "From"} {
		if h := Find(req, name); h != nil {
			text = appendValue(text, h)
		}
		text = append(text, 0)
	}
	if via := req.Via(); via != nil {
		branch, _ := via.Params.Get("branch")
		text = append(text, branch...)
	}
	if cseq := req.CSeq(); cseq != nil {
		text = strconv.AppendUint(append(text, 0), uint64(cseq.SeqNo), 10)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
