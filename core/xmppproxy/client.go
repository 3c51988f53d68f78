package xmppproxy

import (
	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/notify"
	"sallyport/core/xmppproxy/session"
)

// Client is whose session it is, for a [Notifier]. It is the same for the life
// of a session, and can be compared.
type Client = notify.Client

// Notifier knows how a client that is away is told of what waits for it. It is
// called under the lock of the client's session: it must neither block nor call
// the proxy. What it is given is valid until it returns.
type Notifier interface {
	// FromClient looks at each stanza of the client's. What is for the core
	// itself, such as <enable/> of XEP-0357, is consumed, and answered unless
	// answer is nil: then not at all, or by [Client.Answer].
	FromClient(c Client, e *stanza.Element) (answer []byte, consumed bool)
	// FromServer looks at each element from the server, and returns what the
	// client gets in its place, nil to leave it.
	FromServer(c Client, e *stanza.Element) *stanza.Element
	// Pushable reports whether a push can reach the client. It is asked when a
	// session begins or is restored, after something was consumed, and when
	// [Client.Recheck] or [Proxy.Recheck] say so.
	Pushable(c Client) bool
	// Push tells of a stanza that waits, once for each. id is the same for the
	// life of the stanza, over a restart too.
	Push(c Client, e *stanza.Element, id uint64)
	// Alert tells of something else to come back for.
	Alert(c Client, a session.Alert)
	// Active says that the client listens; Away, that it does not any more; and
	// Ended, that there is no such session any more.
	Active(c Client)
	Away(c Client)
	Ended(c Client)
}

// nobody pushes nothing.
type nobody struct{}

func (nobody) FromClient(Client, *stanza.Element) ([]byte, bool)  { return nil, false }
func (nobody) FromServer(Client, *stanza.Element) *stanza.Element { return nil }
func (nobody) Pushable(Client) bool                               { return false }
func (nobody) Push(Client, *stanza.Element, uint64)               {}
func (nobody) Alert(Client, session.Alert)                        {}
func (nobody) Active(Client)                                      {}
func (nobody) Away(Client)                                        {}
func (nobody) Ended(Client)                                       {}
