package sipproxy

import (
	"errors"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/upstream"
	"sallyport/core/wake"
)

// statusOf chooses the SIP status for an error; nothing else does.
func statusOf(err error) int {
	switch {
	case errors.Is(err, sip.ErrTransactionTimeout):
		return 408
	case errors.Is(err, upstream.ErrUnreachable), errors.Is(err, wake.ErrStopped):
		return 503
	case errors.Is(err, errFlowGone), errors.Is(err, sip.ErrTransactionTransport):
		return 503
	case errors.Is(err, wake.ErrWindow), errors.Is(err, wake.ErrNoRoute), errors.Is(err, wake.ErrDeadToken),
		errors.Is(err, wake.ErrProviderDown), errors.Is(err, wake.ErrRate), errors.Is(err, wake.ErrRefused),
		errors.Is(err, wake.ErrGone), errors.Is(err, wake.ErrQuiet):
		return 480
	default:
		return 500
	}
}
