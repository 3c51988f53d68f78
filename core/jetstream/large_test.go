package jetstream_test

import (
	"context"
	"strings"
	"testing"

	"sallyport/core/jetstream"
	"sallyport/core/push"
	"sallyport/core/vault"
)

// accepting is a provider that takes everything.
type accepting struct{}

func (accepting) Send(context.Context, push.Notification) push.Result {
	return push.Result{Outcome: push.Accepted, Status: 200}
}

// Strangers choose the ids, names and texts of notes.
func TestTheLargestNoteIsStored(t *testing.T) {
	s := open(t, jetstream.Config{Dir: t.TempDir()})
	defer closed(t, s)
	v, err := vault.New(vault.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	bob := push.Target{Device: "sip:bob@example.com <urn:uuid:1>", Tokens: []push.Token{{Provider: push.ProviderFCM, Param: "p", Value: "token"}}}
	p := push.New(push.Config{Enabled: true, Outbox: s.Outbox(), Sealer: v, Targets: func(string) (push.Target, bool) { return bob, true }},
		[]push.App{{ID: bundle, Provider: push.ProviderFCM, Project: "p", Sender: accepting{}}}, nil, nil)
	long := strings.Repeat("<", 100_000) // "<" is six characters in JSON
	for what, n := range map[string]push.Note{
		"all":     {Event: push.EventMessage, ID: long, Conversation: long, FromURI: long, FromName: long, Number: long, To: long, Text: long, CallID: long[:4096]},
		"Call-ID": {Event: push.EventMissed, CallID: long, FromURI: "sip:carol@example.com"},
	} {
		for range 2 { // the second is the first
			if err := p.Enqueue(t.Context(), bob, n); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	f := follow(t, s.Outbox())
	f.wait(t, "both notes", func() bool { return f.before == 2 })
}
