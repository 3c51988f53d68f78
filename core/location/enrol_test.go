package location_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/location"
	"sallyport/core/vault"
)

const alicesIM = "xmpp:alice@example.com"

var alicesApp = location.DeviceID{AOR: alicesIM, Instance: "phone"}

func mustEnrol(t testing.TB, l *location.Location, id location.DeviceID, tokens ...location.Token) {
	t.Helper()
	touched, err := l.Enrol(id, tokens)
	if err == nil {
		err = l.Save(touched...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// B1, B29: an IM client's tokens have a life of their own.
func TestAnIMClientIsKeptWithItsTokensWithoutABinding(t *testing.T) {
	store := &location.Memory{}
	synctest.Test(t, func(t *testing.T) {
		running(t, store, func(l *location.Location) {
			mustEnrol(t, l, alicesApp, voip("v1"), alert("a1"))
			time.Sleep(keep - time.Second)
			wantTokens(t, l, alicesApp, "v1", "a1")
			l.Renew(alicesApp)
			time.Sleep(keep - time.Second)
		})
		running(t, store, func(l *location.Location) { // another life
			wantTokens(t, l, alicesApp, "v1", "a1")
			if len(l.Lookup(alice)) != 0 {
				t.Error("a SIP request finds an IM client")
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if _, known := l.Device(alicesApp); known {
				t.Error("kept for longer than device_keep")
			}
		})
		if left, _ := store.Load(t.Context()); len(left) != 0 {
			t.Errorf("%d records are left in the store", len(left))
		}
	})
}

func TestAnIMClientIsForgottenWithItsLastToken(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustEnrol(t, l, alicesApp, voip("v1"), alert("a1"))
		dead(l, alicesApp, "apns", "voip", "v1", "Unregistered", time.Time{})
		if d := device(l, alicesApp); len(d.Tokens) != 2 || !d.Tokens[0].Dead || d.Tokens[1].Dead {
			t.Errorf("after one died: %+v", d.Tokens)
		}
		mustEnrol(t, l, alicesApp, alert("a1"))
		wantTokens(t, l, alicesApp, "a1")
		mustEnrol(t, l, alicesApp)
		if _, known := l.Device(alicesApp); known {
			t.Error("kept without a token")
		}
		mustEnrol(t, l, alicesApp, alert("a2"))
		dead(l, alicesApp, "apns", "alert", "a2", "Unregistered", time.Time{})
		if _, known := l.Device(alicesApp); known {
			t.Error("kept with a dead token alone")
		}
	})
}

// One app may speak SIP and XMPP, and may have several accounts: the token is
// the same each time. Two resources of one account are one device that logged
// in twice.
func TestATokenIsSharedBySIPAndAccountsAndMovesBetweenResources(t *testing.T) {
	store := &location.Memory{}
	other := location.DeviceID{AOR: "xmpp:work@example.com", Instance: "phone"}
	again := location.DeviceID{AOR: alicesIM, Instance: "phone.2"}
	synctest.Test(t, func(t *testing.T) {
		running(t, store, func(l *location.Location) {
			mustBind(t, l, binding("edge1/1/a"), alert("a1"))
			mustEnrol(t, l, alicesApp, alert("a1"))
			mustEnrol(t, l, other, alert("a1"))
			for _, id := range []location.DeviceID{alicesPhone, alicesApp, other} {
				wantTokens(t, l, id, "a1")
			}
			mustEnrol(t, l, again, alert("a1"))
			if _, known := l.Device(alicesApp); known {
				t.Error("two resources share a token")
			}
		})
		running(t, store, func(l *location.Location) {
			for _, id := range []location.DeviceID{alicesPhone, again, other} {
				wantTokens(t, l, id, "a1")
			}
		})
	})
}

func TestAnEnrolmentIsBoundedAndSealed(t *testing.T) {
	store := &location.Memory{}
	v, err := vault.New([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	l := location.New(location.Config{MaxDevices: 2, Vault: v}, store, nil)
	if _, err := l.Enrol(alicesPhone, []location.Token{alert("a1")}); err == nil {
		t.Error("a SIP device enrolled")
	}
	if _, err := l.Enrol(alicesApp, []location.Token{alert(string(make([]byte, 20<<10)))}); !errors.Is(err, location.ErrTooBig) {
		t.Errorf("a huge token: %v", err)
	}
	for i := range 3 {
		mustEnrol(t, l, location.DeviceID{AOR: alicesIM, Instance: fmt.Sprint("r", i)}, alert(fmt.Sprint("sekrit", i)))
	}
	if ds := l.Lookup(alicesIM); len(ds) != 2 || slices.ContainsFunc(ds, func(d location.Device) bool { return d.ID.Instance == "r0" }) {
		t.Errorf("of three devices with room for two there are %v", ds)
	}
	all, _ := store.Load(t.Context())
	for _, record := range all {
		if bytes.Contains(record, []byte("sekrit")) {
			t.Errorf("in clear: %s", record)
		}
	}
}
