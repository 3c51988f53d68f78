package fcm

import "context"

// AccessToken is what c sends with.
func AccessToken(c *Client) string {
	token, _ := c.keeper.get(context.Background())
	return token
}
