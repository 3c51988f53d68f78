package sipmsg

import "fmt"

// Fault says why a message is refused and how to answer it.
type Fault struct {
	// Status is the SIP status to answer a request with; 0 for a response,
	// which is dropped.
	Status int
	// Reason is the reason phrase for Status.
	Reason string
	// Header names the culprit: a header field, "Request-Line" or
	// "Status-Line"; empty where the whole message is at fault.
	Header string
	// Detail says what is wrong with it. It quotes nothing of the message.
	Detail string
	// Close is set where the sender's framing cannot be trusted any longer:
	// a connection should end after the answer.
	Close bool
}

// Error makes a Fault an error: "400 Bad Request: CSeq: method differs …".
func (f *Fault) Error() string {
	if f.Header == "" {
		return fmt.Sprintf("%d %s: %s", f.Status, f.Reason, f.Detail)
	}
	return fmt.Sprintf("%d %s: %s: %s", f.Status, f.Reason, f.Header, f.Detail)
}

func fault(status int, header, detail string) *Fault {
	return &Fault{Status: status, Reason: Reason(status), Header: header, Detail: detail}
}

func bad(header, detail string) *Fault { return fault(400, header, detail) }

// fatal is a fault after which the sender's framing is in doubt.
func fatal(header, detail string) *Fault {
	f := bad(header, detail)
	f.Close = true
	return f
}
