package interop

import (
	"testing"
	"time"

	"sallyport/test/phone"
)

func TestKamailioRegistersAndConnectsTwoPhones(t *testing.T) {
	ctx := within(t, 20*time.Second)
	k := StartKamailio(t, KamailioConfig{Users: Users})
	alice, bob := desk(t, k, "alice"), desk(t, k, "bob")
	for _, p := range []*phone.Phone{alice, bob} {
		if _, err := p.Register(ctx, phone.Registration{}); err != nil {
			t.Fatal(err)
		}
	}
	if all := k.Contacts(t, "alice"); len(all) != 1 {
		t.Errorf("kamailio has %q for alice, want one contact", all)
	}
	call, err := alice.Call(ctx, bob.AOR())
	must(t, err)
	in := incoming(t, ctx, bob)
	must(t, in.Ring())
	answered, err := in.Answer()
	must(t, err)
	must(t, call.Answered(ctx))
	must(t, answered.WaitAck(ctx))
	must(t, answered.Bye(ctx))
	must(t, call.WaitBye(ctx))
	must(t, alice.Unregister(ctx))
	if all := k.Contacts(t, "alice"); len(all) != 0 {
		t.Errorf("kamailio still has %q for alice", all)
	}
}

func TestKamailioRefusesAWrongPasswordAndAnotherUsersFrom(t *testing.T) {
	ctx := within(t, 20*time.Second)
	k := StartKamailio(t, KamailioConfig{Users: Users})
	stranger := phone.New(phone.Config{AOR: "sip:alice@example.com", Password: "guess", Transport: phone.TCP, Addr: k.Addr})
	must(t, stranger.Connect(ctx))
	defer stranger.Close()
	if _, err := stranger.Register(ctx, phone.Registration{}); phone.Status(err) != 401 {
		t.Errorf("REGISTER: %v, want 401", err)
	}
	if all := k.Contacts(t, "alice"); len(all) != 0 {
		t.Errorf("kamailio bound %q", all)
	}
	if _, err := stranger.Message(ctx, "sip:bob@example.com", "hi"); phone.Status(err) != 407 {
		t.Errorf("MESSAGE: %v, want 407", err)
	}
}
