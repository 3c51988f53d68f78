package pushtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// fcmError is how FCM refuses.
type fcmError struct {
	status    int
	code      string // of google.rpc, such as INVALID_ARGUMENT
	text      string
	reason    string // FCM's ErrorCode; "" gives no FcmError detail
	field     string // with violation, a BadRequest detail
	violation string
	page      bool // not JSON at all
}

const (
	detailFCM        = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
	detailBadRequest = "type.googleapis.com/google.rpc.BadRequest"
)

// The refusals that need nothing of the request.
var (
	errUnauthenticated = &fcmError{status: http.StatusUnauthorized, code: "UNAUTHENTICATED",
		text: "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential."}
	errNoProject = &fcmError{status: http.StatusNotFound, code: "NOT_FOUND", text: "Requested entity was not found."}
	errBadToken  = &fcmError{status: http.StatusBadRequest, code: "INVALID_ARGUMENT", reason: "INVALID_ARGUMENT",
		text: "The registration token is not a valid FCM registration token"}
	errUnregistered = &fcmError{status: http.StatusNotFound, code: "NOT_FOUND", reason: "UNREGISTERED",
		text: "Requested entity was not found."}
	errSender = &fcmError{status: http.StatusForbidden, code: "PERMISSION_DENIED", reason: "SENDER_ID_MISMATCH",
		text: "SenderId mismatch"}
	errProjectQuota = &fcmError{status: http.StatusTooManyRequests, code: "RESOURCE_EXHAUSTED", reason: "QUOTA_EXCEEDED",
		text: "Quota exceeded for quota metric 'Send requests' and limit 'Send requests per minute'."}
	errDeviceQuota = &fcmError{status: http.StatusTooManyRequests, code: "RESOURCE_EXHAUSTED", reason: "QUOTA_EXCEEDED",
		text: "Message rate exceeded for the device."}
)

// badRequest is FCM's answer to a body that it cannot read.
func badRequest(field, text string) *fcmError {
	return &fcmError{status: http.StatusBadRequest, code: "INVALID_ARGUMENT", text: text, field: field, violation: text}
}

// invalidArgument is FCM's answer to a message that it can read but not send.
func invalidArgument(field, text string) *fcmError {
	e := badRequest(field, text)
	e.reason = "INVALID_ARGUMENT"
	return e
}

// fcmCodes are the names that FCM gives to statuses.
var fcmCodes = map[int]string{
	http.StatusBadRequest:          "INVALID_ARGUMENT",
	http.StatusUnauthorized:        "UNAUTHENTICATED",
	http.StatusForbidden:           "PERMISSION_DENIED",
	http.StatusNotFound:            "NOT_FOUND",
	http.StatusTooManyRequests:     "RESOURCE_EXHAUSTED",
	http.StatusInternalServerError: "INTERNAL",
	http.StatusServiceUnavailable:  "UNAVAILABLE",
}

// fcm is what the fault makes of a message that was right; nil leaves it so.
func (f Fault) fcm() *fcmError {
	status, reason, html := f.result()
	if status == http.StatusOK {
		return nil
	}
	return &fcmError{status: status, code: fcmCodes[status], text: http.StatusText(status), reason: reason, page: html}
}

// answer delivers the message where it was accepted, or where the fault says
// so, and answers.
func (s *FCM) answer(w http.ResponseWriter, r *http.Request, m *fcmSend, id string, fault *fcmError, f Fault) {
	m.Status = http.StatusOK
	wait := time.Duration(f.RetryAfter) * time.Second
	if fault != nil {
		m.Status, m.Reason = fault.status, fault.reason
		if m.Reason == "" {
			m.Reason = fault.code
		}
	} else if !m.ValidateOnly {
		m.Name = fmt.Sprintf("projects/%s/messages/0:%d%%%s", s.cfg.Project, m.now.UnixMicro(), randomHex(8))
	} else {
		m.Name = "projects/" + s.cfg.Project + "/messages/fake_message_id"
	}
	if m.Token != "" && !m.ValidateOnly && (fault == nil && !f.Drop || f.Delivered) {
		s.apps.deliver(m.FCMMessage, id, s.now())
	}
	s.record(m.FCMMessage) // before the client can know
	if f.Drop {
		<-r.Context().Done()
		return
	}
	if id != "" && !m.ValidateOnly {
		s.meter.answered(id, s.now(), m.Status, wait)
	}
	setRetryAfter(w, f)
	if f.Reset {
		w.WriteHeader(m.Status)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	if fault != nil {
		writeFCM(w, fault)
	} else {
		writeJSON(w, map[string]string{"name": m.Name})
	}
	if s.OnAnswer != nil {
		s.OnAnswer(m.FCMMessage)
	}
	if fault == nil && !m.ValidateOnly {
		s.accepted(func() {
			if s.OnPush != nil {
				s.OnPush(m.FCMMessage)
			}
		})
	}
}

func setRetryAfter(w http.ResponseWriter, f Fault) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
}

// writeFCM writes an error in one of its two shapes, or both at once.
func writeFCM(w http.ResponseWriter, e *fcmError) {
	if e.page {
		writePage(w, e.status)
		return
	}
	var details []map[string]any
	if e.violation != "" {
		details = append(details, map[string]any{"@type": detailBadRequest, "fieldViolations": []map[string]string{
			{"field": e.field, "description": e.violation},
		}})
	}
	if e.reason != "" {
		details = append(details, map[string]any{"@type": detailFCM, "errorCode": e.reason})
	}
	body := map[string]any{"code": e.status, "message": e.text, "status": e.code}
	if details != nil {
		body["details"] = details
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://accounts.google.com/"`)
	}
	w.WriteHeader(e.status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": body}) // the client is gone if this fails
}

// writePage writes what a front end says that knows nothing of the API.
func writePage(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<!DOCTYPE html>\n<html lang=en>\n<title>Error %d (%s)!!1</title>\n", status, http.StatusText(status))
}
