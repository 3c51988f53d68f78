package location_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/core/location"
)

func TestB1_ARegistrationIsFoundByEveryNameItHas(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("edge1/1/a"), voip("v1"), alert("a1"))
		want := binding("edge1/1/a")
		want.Core, want.Registered = "core1", time.Now()

		d, b, ok := l.ByToken("T0KEN")
		if diff := cmp.Diff(want, b); diff != "" || !ok {
			t.Errorf("by token (-want +got):\n%s", diff)
		}
		if d.ID != alicesPhone || d.Class != "split" || d.Flow() != "edge1/1/a" || !d.Keep.Equal(time.Now().Add(keep)) {
			t.Errorf("device %+v", d)
		}
		if got := l.ByFlow("edge1/1/a"); len(got) != 1 || got[0].Token != "T0KEN" {
			t.Errorf("by flow: %v", got)
		}
		if got := l.Lookup(alice); len(got) != 1 || len(got[0].Tokens) != 2 || !got[0].Tokens[0].Registered.Equal(time.Now()) {
			t.Errorf("by aor: %v", got)
		}
		if _, _, ok := l.ByToken("another"); ok || len(l.Lookup(bobs)) != 0 || len(l.ByFlow("another")) != 0 {
			t.Error("found what was never bound")
		}
	})
}

func TestARefreshReplacesTheBindingOfItsRegID(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("old"), voip("v1"))
		time.Sleep(time.Minute)
		again := binding("new")
		again.Token = "T0KEN2"
		mustBind(t, l, again, voip("v1"))
		d := device(l, alicesPhone)
		if len(d.Bindings) != 1 || d.Flow() != "new" {
			t.Errorf("%d bindings, flow %q; want 1, new", len(d.Bindings), d.Flow())
		}
		if _, _, ok := l.ByToken("T0KEN"); ok || len(l.ByFlow("old")) != 0 {
			t.Error("the replaced binding is still found")
		}
		if ids := l.Unflow("old", time.Now()); len(ids) != 0 || device(l, alicesPhone).Flow() != "new" {
			t.Errorf("the end of the old flow touched %v", ids)
		}
	})
}

func TestABindingIsFoundOnItsFlowAndKnownToBeAlone(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("f"), voip("v1"))
		if b, ok := l.OnFlow("f", alicesPhone, 1); !ok || b.Token != "T0KEN" || !l.Alone(alicesPhone, 1) {
			t.Errorf("found %+v, %v; alone %v", b, ok, l.Alone(alicesPhone, 1))
		}
		if b, ok := l.BindingOn(alicesPhone, "f"); !ok || b.Token != "T0KEN" {
			t.Errorf("found %+v, %v", b, ok)
		}
		if id, ok := l.Owner("T0KEN"); !ok || id != alicesPhone {
			t.Errorf("the token is %v's, %v", id, ok)
		}
		if _, ok := l.Owner("T0KEN9"); ok {
			t.Error("a token of nobody's has an owner")
		}
		if _, ok := l.OnFlow("f", alicesPhone, 2); ok {
			t.Error("another reg-id is found")
		}
		if _, ok := l.OnFlow("g", alicesPhone, 1); ok {
			t.Error("it is found on another flow")
		}
		second := binding("g")
		second.RegID, second.Token = 2, "T0KEN2"
		mustBind(t, l, second, voip("v1"))
		if l.Alone(alicesPhone, 1) {
			t.Error("a binding beside another is alone")
		}
		l.Unflow("f", time.Now())
		if _, ok := l.OnFlow("f", alicesPhone, 1); ok {
			t.Error("it is found on a flow that ended")
		}
		if _, ok := l.BindingOn(alicesPhone, "f"); ok {
			t.Error("it lives on a flow that ended")
		}
	})
}

func TestTwoRegIDsAreOneDeviceAndTheNewestFlowCounts(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("first"), voip("v1"))
		time.Sleep(time.Second)
		second := binding("second")
		second.RegID, second.Token = 2, "T0KEN2"
		mustBind(t, l, second, voip("v1"))
		d := device(l, alicesPhone)
		if len(d.Bindings) != 2 || d.Flow() != "second" || len(l.Lookup(alice)) != 1 {
			t.Fatalf("%d bindings on %q, %d devices", len(d.Bindings), d.Flow(), len(l.Lookup(alice)))
		}
		lost := time.Now()
		if ids := l.Unflow("second", lost); !slices.Equal(ids, []location.DeviceID{alicesPhone}) {
			t.Errorf("Unflow names %v", ids)
		}
		if d = device(l, alicesPhone); d.Flow() != "first" || !d.FlowLost().Equal(lost) {
			t.Errorf("flow %q, lost %v", d.Flow(), d.FlowLost())
		}
		l.Unbind(alicesPhone, 1)
		wantTokens(t, l, alicesPhone, "v1") // reg-id 2 still holds the device
		l.Unbind(alicesPhone, 2)
		wantTokens(t, l, alicesPhone)
	})
}

func TestOB9_ALostFlowLeavesTheDeviceSuspended(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("f"), voip("v1"))
		time.Sleep(time.Minute)
		l.Unflow("f", time.Now())
		d, b, ok := l.ByToken("T0KEN")
		if !ok || d.Flow() != "" || b.Flow != "" || b.Expired(time.Now()) || !d.FlowLost().Equal(time.Now()) {
			t.Errorf("device %+v, binding %+v", d, b)
		}
		if len(l.ByFlow("f")) != 0 {
			t.Error("a dead flow still authorizes")
		}
	})
}

func TestATunnelThatComesBackBringsItsFlowsBack(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("f"), voip("v1"))
		l.Unflow("f", time.Now())
		got := l.Reattach("f")
		if len(got) != 1 || got[0].Flow != "f" || !got[0].FlowLost.IsZero() || device(l, alicesPhone).Flow() != "f" {
			t.Errorf("reattached %v", got)
		}
		if got := l.Reattach("stranger"); len(got) != 0 {
			t.Errorf("a stranger's flow attached to %v", got)
		}
		time.Sleep(2 * time.Hour)
		if got := l.Reattach("f"); len(got) != 0 {
			t.Errorf("a flow attached to an expired binding: %v", got)
		}
	})
}

func TestTwoAORsOnOneFlow(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("f"))
		other := binding("f")
		other.AOR, other.Token = bobs, "B0B"
		mustBind(t, l, other)
		if got := l.ByFlow("f"); len(got) != 2 {
			t.Errorf("%d bindings on the flow, want 2", len(got))
		}
		if got := l.Unflow("f", time.Now()); len(got) != 2 {
			t.Errorf("Unflow names %v, want both", got)
		}
		if devices, live := l.Count(); devices != 2 || live != 0 {
			t.Errorf("%d devices, %d live; want 2, 0", devices, live)
		}
	})
}

func TestSnapshotsAreCopies(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		b := binding("f")
		b.Identities = []string{"sip:al@example.com"}
		mustBind(t, l, b, voip("v1"))
		b.Identities[0] = "changed"
		d := device(l, alicesPhone)
		d.Tokens[0].Value, d.Bindings[0].Flow, d.Bindings[0].Identities[0] = "changed", "changed", "changed"
		got := device(l, alicesPhone)
		if got.Tokens[0].Value != "v1" || got.Flow() != "f" || got.Bindings[0].Identities[0] != "sip:al@example.com" {
			t.Errorf("a caller's change shows: %+v", got)
		}
	})
}

func TestWhatCannotBeKeptIsRefusedAndChangesNothing(t *testing.T) {
	tests := map[string]struct {
		change func(*location.Binding)
		tokens []location.Token
		want   string
	}{
		"no aor":              {func(b *location.Binding) { b.AOR = "" }, nil, "aor"},
		"a blank in the aor":  {func(b *location.Binding) { b.AOR = "sip:a b@c" }, nil, "aor"},
		"no end":              {func(b *location.Binding) { b.Expires = time.Time{} }, nil, "expires"},
		"a contact too long":  {func(b *location.Binding) { b.Contact = strings.Repeat("x", 20000) }, nil, "too big"},
		"a token too long":    {func(*location.Binding) {}, []location.Token{voip(strings.Repeat("x", 20000))}, "too big"},
		"too many tokens":     {func(*location.Binding) {}, make([]location.Token, 5), "4 push tokens"},
		"too many identities": {func(b *location.Binding) { b.Identities = make([]string, 33) }, nil, "32 identities"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
				b := binding("f")
				tt.change(&b)
				if err := l.Bind(b, tt.tokens, ""); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want an error about %s", err, tt.want)
				}
				if devices, _ := l.Count(); devices != 0 {
					t.Error("it was kept all the same")
				}
			})
		})
	}
}

func TestOneAORCannotFillTheStore(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		instance := func(i int) location.Binding {
			b := binding(fmt.Sprint("f", i))
			b.Instance, b.Token = fmt.Sprint("i", i), fmt.Sprint("t", i)
			return b
		}
		for i := range 64 {
			mustBind(t, l, instance(i), voip(fmt.Sprint("v", i)))
			time.Sleep(time.Second)
		}
		err := l.Bind(instance(64), nil, "")
		if !errors.Is(err, location.ErrTooMany) || strings.Contains(err.Error(), "alice") {
			t.Errorf("got %v, want ErrTooMany without the name", err)
		}
		l.Unflow("f7", time.Now())
		l.Unflow("f9", time.Now())
		mustBind(t, l, instance(64))
		if _, _, ok := l.ByToken("t7"); ok || len(l.Lookup(alice)) != 64 {
			t.Error("the flow-less device that registered longest ago was not evicted")
		}
		one := instance(64)
		for i := range 20 {
			one.RegID, one.Token = i, fmt.Sprint("r", i)
			mustBind(t, l, one)
		}
		if d := device(l, one.ID()); len(d.Bindings) != 8 {
			t.Errorf("%d bindings of one device, want 8", len(d.Bindings))
		}
	})
}

func TestAllIsInOrderAndMayStop(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		for _, aor := range []string{bobs, alice, "sip:carol@example.com"} {
			b := binding("f")
			b.AOR, b.Token = aor, aor
			mustBind(t, l, b)
		}
		var seen []string
		for d := range l.All {
			l.Remove(d.ID) // the lock is free
			if seen = append(seen, d.ID.AOR); len(seen) == 2 {
				break
			}
		}
		if !slices.Equal(seen, []string{alice, bobs}) {
			t.Errorf("saw %v", seen)
		}
	})
}

func TestLookupHasTheNewestRegistrationFirst(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		for _, instance := range []string{"a", "b", "a"} {
			b := binding("f" + instance)
			b.Instance, b.Token = instance, instance
			mustBind(t, l, b)
			time.Sleep(time.Second)
		}
		if got := l.Lookup(alice); len(got) != 2 || got[0].ID.Instance != "a" {
			t.Errorf("got %v", got)
		}
	})
}

func FuzzParseDeviceID(f *testing.F) {
	f.Add("sip:alice@example.com " + phone)
	f.Add("sip:alice@example.com ")
	f.Add(" ")
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := location.ParseDeviceID(s)
		if ok && id.String() != s {
			t.Errorf("%q became %q", s, id.String())
		}
		if ok && (id.AOR == "" || strings.Contains(id.AOR, " ")) {
			t.Errorf("%q has AOR %q", s, id.AOR)
		}
	})
}
