package fcm

import (
	"context"

	"firebase.google.com/go/v4/messaging"

	"sallyport/core/push"
)

// Try proves without a device that pushes can be sent: it fetches an access
// token and lets FCM look at a message to nobody, which is delivered nowhere.
// It returns nil when FCM knows the project, takes the account, and objects to
// the recipient alone.
func (c *Client) Try(ctx context.Context) *push.Trouble {
	d := c.delivery(push.Notification{}, &messaging.Message{Token: "sallyport-check", Data: map[string]string{"v": "1"}})
	d.dry = true
	a := d.deliver(ctx)
	v := judge(a)
	switch {
	case v.outcome == push.Accepted, v.outcome == push.DeadToken, v.probe, v.suspect:
		return nil
	case d.access == "":
		return tokenTrouble(a.err)
	}
	return trouble(v, a)
}
