package notify

import (
	"context"

	"sallyport/core/location"
	"sallyport/core/stanza"
)

const (
	keepers = 4    // registrations that are written at once
	maxKept = 1024 // those that wait for it; more are refused
)

// keeping is a registration on its way to the store, and what its client is
// told then.
type keeping struct {
	c         Client
	ids       []location.DeviceID
	done, not []byte
}

// keep has devices written down before done is the answer to e; nil, unless too
// many wait.
func (n *Notifier) keep(c Client, e *stanza.Element, ids []location.DeviceID, done []byte) []byte {
	not := refusal(c, e, "wait", "resource-constraint", "")
	select {
	case n.kept <- keeping{c, ids, done, not}:
		return nil
	default:
		return not
	}
}

// keeper writes down what clients registered, until ctx ends.
func (n *Notifier) keeper(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case k := <-n.kept:
			answer := k.done
			if err := n.loc.Save(k.ids...); err != nil {
				n.log.Warn("registration for pushes not kept", "device", k.ids[0], "err", err)
				answer = k.not
			}
			k.c.Answer(answer)
		}
	}
}

// moved tells the clients whose tokens are another's now that they may not be
// reached any more. n.mu is held.
func (n *Notifier) moved(losers []location.DeviceID) {
	for _, id := range losers {
		for c, s := range n.clients {
			if s.id == id {
				c.Recheck()
			}
		}
	}
}
