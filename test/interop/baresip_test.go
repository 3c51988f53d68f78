package interop

import (
	"testing"
	"time"

	"sallyport/test/phone"
)

func TestBaresipRegistersAtKamailioCallsAndIsCalled(t *testing.T) {
	ctx := within(t, 25*time.Second)
	k := StartKamailio(t, KamailioConfig{Users: Users})
	bob := StartBaresip(t, BaresipConfig{AOR: "sip:bob@example.com", Password: Users["bob"], Addr: k.Addr, Transport: "tcp"})
	bob.Expect(ctx, "REGISTER_OK")
	if all := k.Contacts(t, "bob"); len(all) != 1 {
		t.Fatalf("kamailio has %q for bob, want one contact", all)
	}
	alice := desk(t, k, "alice")
	if _, err := alice.Register(ctx, phone.Registration{}); err != nil {
		t.Fatal(err)
	}
	call, err := alice.Call(ctx, "sip:bob@example.com")
	must(t, err)
	bob.Expect(ctx, "CALL_INCOMING")
	bob.Do("accept", "")
	must(t, call.Answered(ctx))
	bob.Expect(ctx, "CALL_ESTABLISHED")
	must(t, call.Bye(ctx))
	bob.Expect(ctx, "CALL_CLOSED")

	bob.Do("dial", "sip:alice@example.com")
	d := answer(t, ctx, alice)
	bob.Expect(ctx, "CALL_ESTABLISHED")
	bob.Do("hangup", "")
	must(t, d.WaitBye(ctx))
}
