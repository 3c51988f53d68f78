package xmpp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/core/push/pushtest"
	"sallyport/test/process"
)

// cast are the accounts of one story, which no other story uses: the client
// outside, its friend inside, and a stranger.
type cast struct{ bob, alice, carol string }

// stories are told through one edge and core before each kind of server.
var stories = []struct {
	name string
	tell func(*testing.T, context.Context, *system, cast)
}{
	{"TXM1_LoginRosterMessagesByteForByte", storyLogin},
	{"TXM2_InactiveIsAwayAndPushed", storyInactive},
	{"TXM3_ActiveGetsAllBeforeAnything", storyActive},
	{"TXM4_ResetIsPushedAndResumed", storyReset},
	{"TXM7_AnotherUserDoesNotResume", storyForeign},
	{"TXM12_ACallIsPushedAsACall", storyCall},
	{"TXM13_WhatNobodyReadsIsNotPushed", storyQuiet},
	{"TXM14_ANewLoginGetsWhatWasHeld", storyNewLogin},
	{"TXM15_ARoomsPingIsAnswered", storyRoom},
	{"TXM16_TheAwayOfTheCoreIsNotSeenByItsClient", storyDnd},
	{"TXM18_WithoutSMTheServerIsToldAtOnce", storyNoSM},
}

func TestThrough(t *testing.T) {
	cfg := ServerConfig{Users: make(map[string]string)}
	var casts []cast
	for i := range len(stories) + 1 {
		c := cast{"bob" + strconv.Itoa(i), "alice" + strconv.Itoa(i), "carol" + strconv.Itoa(i)}
		casts = append(casts, c)
		for _, user := range []string{c.bob, c.alice, c.carol} {
			cfg.Users[user] = "secret of " + user
		}
		cfg.Friends = append(cfg.Friends, [2]string{c.bob, c.alice})
	}
	eachServer(t, cfg, func(t *testing.T, s *Server) {
		sys := startSystem(t, s)
		for i, story := range stories {
			t.Run(story.name, func(t *testing.T) { story.tell(t, within(t, 30*time.Second), sys, casts[i]) })
		}
		t.Run("TXM10_TheServerStartsAnew", func(t *testing.T) {
			storyServerRestart(t, within(t, 60*time.Second), sys, casts[len(stories)])
		})
	})
}

// odd is a message no two parsers should see differently, nor anybody rewrite.
const odd = "<body>a &lt;b&gt; &amp; &quot;c&quot; &apos; ü 🦊</body>" +
	"<x xmlns='urn:example:one' a='1' b=\"it's\"><y xmlns='urn:example:two'/><z>&#65;<![CDATA[<raw>]]></z></x>" +
	"<thread>t</thread><p:q xmlns:p='urn:example:three' p:r='s'/>"

func storyLogin(t *testing.T, ctx context.Context, s *system, who cast) {
	alice := connected(t, ctx, s.inside(t, who.alice))
	direct := connected(t, ctx, s.inside(t, who.carol))
	for _, transport := range []string{"tls", "wss"} {
		for _, mechanism := range []string{"SCRAM-SHA-1", "PLAIN"} {
			bob := connected(t, ctx, s.outside(t, who.bob, transport, func(c *ClientConfig) { c.Mechanism = mechanism }))
			must(t, errors.Join(offers(bob, NSSM, "sm"), offers(bob, NSCSI, "csi")))
			roster := got[*Stanza](t)(bob.Ask(ctx, "get", "", "<query xmlns='"+nsRoster+"'/>"))
			if !bytes.Contains(roster.Raw, []byte(s.server.JID(who.alice))) {
				t.Fatalf("the roster is %s", roster.Raw)
			}
			send := func(from, to *Client, id string) *Stanza {
				must(t, from.Send("<message xmlns='"+NSClient+"' type='chat' id='"+id+"' to='"+to.JID()+"'>"+odd+"</message>"))
				return got[*Stanza](t)(to.Expect(ctx, id, func(m *Stanza) bool { return m.Name == "message" && m.ID() == id }))
			}
			for _, pair := range [][2]*Stanza{
				{send(bob, alice, NewID()), send(direct, alice, NewID())},
				{send(alice, bob, NewID()), send(alice, direct, NewID())},
			} {
				if through, without := children(pair[0], s.server), children(pair[1], s.server); !slices.Equal(through, without) {
					t.Errorf("through the core:\n%q\nwithout it:\n%q", through, without)
				}
			}
			must(t, bob.Acked(ctx))
			bob.Close(ctx)
		}
	}
}

// children are the elements of a stanza, byte for byte as they came. Prosody
// writes the attributes of a tag in an order of chance, so these are sorted.
func children(s *Stanza, from *Server) (all []string) {
	for _, c := range s.Children {
		text := string(c.Raw)
		if from.Kind == "prosody" {
			words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '<' || r == '>' || r == '/' })
			slices.Sort(words)
			text = strings.Join(words, " ")
		}
		all = append(all, text)
	}
	return all
}

// asleep is a client with push that has told it is away.
func asleep(t *testing.T, ctx context.Context, s *system, who cast) (alice, bob *Client) {
	t.Helper()
	alice = connected(t, ctx, s.inside(t, who.alice))
	bob = connected(t, ctx, s.outside(t, who.bob, "tls"))
	enablePush(t, ctx, bob, who.bob)
	got[*Stanza](t)(alice.ExpectShow(ctx, bob.JID(), ""))
	must(t, bob.Inactive())
	got[*Stanza](t)(alice.ExpectShow(ctx, bob.JID(), "away"))
	return alice, bob
}

func storyInactive(t *testing.T, ctx context.Context, s *system, who cast) {
	alice, bob := asleep(t, ctx, s, who)
	_, h := bob.SM()
	got[string](t)(alice.Message(bob.JID(), "are you there?"))
	_, alert := tokens(who.bob)
	one(t, s.pushed(t, alert, "message"))
	if _, now := bob.SM(); now != h {
		t.Errorf("%d stanzas were written to a client that is inactive", now-h)
	}
	must(t, bob.Active())
	got[*Stanza](t)(bob.ExpectMessage(ctx, "are you there?"))
	one(t, s.pushes(alert, "message"))
}

func storyActive(t *testing.T, ctx context.Context, s *system, who cast) {
	alice, bob := asleep(t, ctx, s, who)
	for i := range 5 {
		got[string](t)(alice.Message(bob.JID(), "number "+strconv.Itoa(i)))
	}
	_, alert := tokens(who.bob)
	s.pushed(t, alert, "message")
	s.until(t, who.bob, "silent", 5)
	must(t, bob.Active())
	must(t, bob.Ping(ctx))
	inOrder(t, bob, 5)
	got[*Stanza](t)(alice.ExpectShow(ctx, bob.JID(), ""))
	got[string](t)(alice.Message(bob.JID(), "now"))
	got[*Stanza](t)(bob.ExpectMessage(ctx, "now"))
}

// inOrder wants n numbered messages once each, in order, among what came.
func inOrder(t *testing.T, c *Client, n int) {
	t.Helper()
	var all []string
	for _, s := range c.Inbox() {
		if s.Name == "message" && strings.HasPrefix(s.Body(), "number ") {
			all = append(all, strings.TrimPrefix(s.Body(), "number "))
		}
	}
	want := make([]string, n)
	for i := range want {
		want[i] = strconv.Itoa(i)
	}
	if !slices.Equal(all, want) {
		t.Errorf("got numbers %v, want %v", all, want)
	}
}

func storyReset(t *testing.T, ctx context.Context, s *system, who cast) {
	alice := connected(t, ctx, s.inside(t, who.alice))
	bob := connected(t, ctx, s.outside(t, who.bob, "wss"))
	enablePush(t, ctx, bob, who.bob)
	got[string](t)(alice.Message(bob.JID(), "number 0"))
	must(t, bob.wait(ctx, "number 0", func() bool { return len(bob.inbox) > 0 && bob.inbox[len(bob.inbox)-1].Body() == "number 0" }))
	must(t, bob.Ping(ctx))
	bob.Reset()
	got[*Stanza](t)(alice.ExpectShow(ctx, bob.JID(), "away"))
	for i := 1; i < 4; i++ {
		got[string](t)(alice.Message(bob.JID(), "number "+strconv.Itoa(i)))
	}
	_, alert := tokens(who.bob)
	s.pushed(t, alert, "message")
	s.until(t, who.bob, "suspended", 3)
	must(t, bob.Resume(ctx))
	must(t, bob.Ping(ctx))
	inOrder(t, bob, 4)
	got[*Stanza](t)(alice.ExpectShow(ctx, bob.JID(), ""))
}

func storyForeign(t *testing.T, ctx context.Context, s *system, who cast) {
	bob := connected(t, ctx, s.outside(t, who.bob, "tls"))
	carol := s.outside(t, who.carol, "wss")
	must(t, carol.Connect(ctx))
	carol.Reset()
	id, _ := bob.SM()
	carol.mu.Lock()
	carol.smID, carol.h = id, 0
	carol.mu.Unlock()
	err := carol.Resume(ctx)
	if refused := (*NotResumed)(nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "item-not-found") {
		t.Fatalf("got %v", err)
	}
	must(t, bob.Ping(ctx))
	bob.Reset()
	must(t, bob.Resume(ctx))
	must(t, bob.Ping(ctx))
}

func storyCall(t *testing.T, ctx context.Context, s *system, who cast) {
	alice, bob := asleep(t, ctx, s, who)
	bob.Reset()
	voip, alert := tokens(who.bob)
	for _, call := range []string{"c1", "c2"} {
		start := time.Now()
		must(t, alice.Send(fmt.Sprintf("<message xmlns='%s' type='chat' id='%s' to='%s'><propose xmlns='urn:xmpp:jingle-message:0' id='%s'><description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/></propose></message>", NSClient, NewID(), bob.JID(), call)))
		var push pushtest.Push
		must(t, process.Poll(5*time.Second, func() error {
			for _, push = range s.pushes(voip, "call") {
				if bytes.Contains(push.Payload, []byte(`"`+call+`"`)) {
					return nil
				}
			}
			return errors.New("no push of " + call)
		}))
		if took := push.At.Sub(start); push.PushType != "voip" || took > time.Second {
			t.Errorf("pushed as %s after %v", push.PushType, took)
		}
	}
	if n := len(s.pushes(voip, "call")); n != 2 {
		t.Errorf("%d pushes for two calls", n)
	}
	if n := len(s.pushes(alert, "message")) + len(s.pushes(alert, "call")); n != 0 {
		t.Errorf("%d pushes on the Message channel", n)
	}
	must(t, bob.Resume(ctx))
	must(t, bob.Ping(ctx))
}

func storyQuiet(t *testing.T, ctx context.Context, s *system, who cast) {
	alice, bob := asleep(t, ctx, s, who)
	must(t, alice.Presence("<status>busy</status>"))
	for _, inside := range []string{
		"<composing xmlns='http://jabber.org/protocol/chatstates'/>",
		"<received xmlns='urn:xmpp:receipts' id='x'/>",
		"<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/>",
	} {
		must(t, alice.Send("<message xmlns='"+NSClient+"' type='chat' to='"+bob.JID()+"'>"+inside+"</message>"))
	}
	must(t, alice.Send("<message xmlns='"+NSClient+"' type='chat' id='"+NewID()+"' to='"+bob.JID()+"'><encrypted xmlns='eu.siacs.conversations.axolotl'><payload>c2VjcmV0</payload></encrypted><body>This is OMEMO</body></message>"))
	_, alert := tokens(who.bob)
	push := one(t, s.pushed(t, alert, "message")) // the encrypted one alone
	if bytes.Contains(push.Payload, []byte("OMEMO")) || bytes.Contains(push.Payload, []byte("c2VjcmV0")) {
		t.Errorf("the push of an encrypted message shows %s", push.Payload)
	}
}

func storyNewLogin(t *testing.T, ctx context.Context, s *system, who cast) {
	alice, bob := asleep(t, ctx, s, who)
	bob.Reset()
	for i := range 3 {
		got[string](t)(alice.Message(s.server.JID(who.bob), "number "+strconv.Itoa(i)))
	}
	s.until(t, who.bob, "suspended", 3)
	must(t, bob.Connect(ctx)) // knows nothing of its session
	must(t, bob.Presence(""))
	must(t, bob.wait(ctx, "what was held", func() bool { return numbered(bob) >= 3 }))
	must(t, errors.Join(bob.Ping(ctx), alice.Ping(ctx), bob.Ping(ctx)))
	inOrder(t, bob, 3)
}

// numbered counts numbered messages. c.mu is held.
func numbered(c *Client) (n int) {
	for _, s := range c.inbox {
		if strings.HasPrefix(s.Body(), "number ") {
			n++
		}
	}
	return n
}

func storyRoom(t *testing.T, ctx context.Context, s *system, who cast) {
	room := "room-" + who.bob + "@" + s.server.Rooms
	alice := connected(t, ctx, s.inside(t, who.alice))
	bob := connected(t, ctx, s.outside(t, who.bob, "tls"))
	enter := func(c *Client, nick string) {
		must(t, c.Send("<presence xmlns='"+NSClient+"' to='"+room+"/"+nick+"'><x xmlns='http://jabber.org/protocol/muc'/></presence>"))
		got[*Stanza](t)(c.Expect(ctx, nick+" in the room", func(p *Stanza) bool { return p.Name == "presence" && p.From() == room+"/"+nick }))
	}
	enter(alice, "alice")
	got[*Stanza](t)(alice.Ask(ctx, "set", room, "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>"))
	enter(bob, "bob")
	must(t, bob.Inactive())
	bob.Reset()
	got[*Stanza](t)(alice.ExpectShow(ctx, s.server.JID(who.bob)+"/r-"+who.bob, "away"))
	answer := got[*Stanza](t)(alice.Ask(ctx, "get", room+"/bob", "<ping xmlns='"+NSPing+"'/>"))
	if answer.Type() != "result" {
		t.Errorf("the ping to an occupant that sleeps was answered by %s", answer.Raw)
	}
	must(t, alice.Send("<message xmlns='"+NSClient+"' type='groupchat' to='"+room+"'><body>still here?</body></message>"))
	must(t, bob.Resume(ctx))
	got[*Stanza](t)(bob.ExpectMessage(ctx, "still here?"))
}

func storyDnd(t *testing.T, ctx context.Context, s *system, who cast) {
	alice := connected(t, ctx, s.inside(t, who.alice))
	bob := connected(t, ctx, s.outside(t, who.bob, "tls"))
	bob.Reset()
	got[*Stanza](t)(alice.ExpectShow(ctx, bob.JID(), "away"))
	must(t, bob.Resume(ctx))
	got[*Stanza](t)(alice.ExpectShow(ctx, bob.JID(), ""))
	must(t, bob.Presence("<show>dnd</show><status>busy</status>"))
	got[*Stanza](t)(alice.ExpectShow(ctx, bob.JID(), "dnd"))
	bob.Reset()
	s.until(t, who.bob, "suspended", 0)
	must(t, alice.Ping(ctx))
	for _, p := range alice.Inbox() {
		if p.Name == "presence" && p.Show() == "away" {
			t.Errorf("who does not want to be disturbed is shown as %s", p.Raw)
		}
	}
	must(t, bob.Resume(ctx))
	must(t, bob.Ping(ctx))
	for _, p := range bob.Inbox() {
		if p.Name == "presence" && p.Show() == "away" {
			t.Errorf("the client got %s", p.Raw)
		}
	}
}

func storyNoSM(t *testing.T, ctx context.Context, s *system, who cast) {
	alice := connected(t, ctx, s.inside(t, who.alice))
	bob := connected(t, ctx, s.outside(t, who.bob, "tls", func(c *ClientConfig) { c.NoSM = true }))
	got[*Stanza](t)(alice.ExpectShow(ctx, bob.JID(), ""))
	start := time.Now()
	bob.Drop()
	got[*Stanza](t)(alice.Expect(ctx, "bob to leave", func(p *Stanza) bool {
		return p.Name == "presence" && p.Type() == "unavailable" && p.From() == bob.JID()
	}))
	if took := time.Since(start); took > time.Second {
		t.Errorf("the server was told after %v, want 1 s", took)
	}
}

func storyServerRestart(t *testing.T, ctx context.Context, s *system, who cast) {
	alice, bob := asleep(t, ctx, s, who)
	bob.Reset()
	for i := range 3 {
		got[string](t)(alice.Message(s.server.JID(who.bob), "number "+strconv.Itoa(i)))
	}
	must(t, alice.Acked(ctx))
	s.until(t, who.bob, "suspended", 3)
	_, alert := tokens(who.bob)
	s.pushed(t, alert, "message")
	s.server.End()
	s.server.Start(t)
	s.pushed(t, alert, "register") // come and log in
	alice = connected(t, ctx, s.inside(t, who.alice))
	got[string](t)(alice.Message(s.server.JID(who.bob), "number 3")) // which the server keeps
	must(t, alice.Acked(ctx))
	var err error
	for range 100 { // the core may not have seen yet that the server is back
		if err = bob.Resume(ctx); err != nil && !errors.As(err, new(*NotResumed)) {
			pause(ctx, 50*time.Millisecond)
			continue
		}
		break
	}
	if refused := (*NotResumed)(nil); !errors.As(err, &refused) || refused.H == "" {
		t.Fatalf("got %v, want failed with h", err)
	}
	must(t, bob.Bind(ctx))
	must(t, bob.Presence(""))
	must(t, bob.wait(ctx, "what was held", func() bool { return numbered(bob) >= 4 }))
	must(t, errors.Join(bob.Ping(ctx), alice.Ping(ctx), bob.Ping(ctx)))
	inOrder(t, bob, 4)
	one(t, s.pushes(alert, "register"))
}
