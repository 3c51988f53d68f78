package location_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/location"
	"sallyport/core/vault"
)

const (
	secretToken = "00fc13adff785122b4ad28809a342098"
	secretKey   = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
	secretAuth  = "BTBZMqHH6r4Tts7J_aSIgg"
)

func newVault(t *testing.T, keys ...[]byte) *vault.Vault {
	t.Helper()
	v, err := vault.New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// secretive is a registration full of secrets.
func secretive() (location.Binding, []location.Token) {
	b := binding("edge1/1/a")
	b.Contact = "<sip:alice@10.0.0.1:40001;transport=tls;pn-provider=apns;pn-prid=" + secretToken + ":voip;pn-auth=" + secretAuth + ">"
	v := voip(secretToken)
	v.Key, v.Auth = secretKey, secretAuth
	return b, []location.Token{v, alert("a1" + secretToken)}
}

func showsSecrets(value []byte) bool {
	for _, s := range []string{secretToken, secretKey, secretAuth} {
		if bytes.Contains(value, []byte(s)) {
			return true
		}
	}
	return false
}

// life is one life of a core with a vault; f runs while it lives.
func life(t *testing.T, store location.Store, v *vault.Vault, f func(l *location.Location)) {
	t.Helper()
	l := location.New(location.Config{DeviceKeep: keep, Core: "core1", Vault: v}, store, nil)
	if err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	runUntilDone(t, l, f)
}

func wantWhole(t *testing.T, l *location.Location) {
	t.Helper()
	b, tokens := secretive()
	d := device(l, alicesPhone)
	if len(d.Tokens) != 2 || len(d.Bindings) != 1 {
		t.Fatalf("%d tokens, %d bindings", len(d.Tokens), len(d.Bindings))
	}
	if got := d.Tokens[0]; got.Value != tokens[0].Value || got.Key != secretKey || got.Auth != secretAuth || d.Bindings[0].Contact != b.Contact {
		t.Errorf("device came back as %+v", d)
	}
}

func TestNoSecretIsStoredInClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, v := &location.Memory{}, newVault(t, vault.NewKey())
		life(t, store, v, func(l *location.Location) {
			b, tokens := secretive()
			mustBind(t, l, b, tokens...)
			wantWhole(t, l) // sealing takes nothing from the device in use
		})
		for key, value := range stored(t, store) {
			if showsSecrets(value) {
				t.Errorf("%s shows a secret: %s", key, value)
			}
			if !bytes.Contains(value, []byte(alice)) {
				t.Errorf("%s does not say whose it is: %s", key, value)
			}
		}
		life(t, store, v, func(l *location.Location) { wantWhole(t, l) })
	})
}

func TestARecordInClearIsReadAndSealedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, v := &location.Memory{}, newVault(t, vault.NewKey())
		life(t, store, nil, func(l *location.Location) {
			b, tokens := secretive()
			mustBind(t, l, b, tokens...)
		})
		life(t, store, v, func(l *location.Location) {
			wantWhole(t, l)
			if !showsSecrets(bytes.Join(slices.Collect(maps.Values(stored(t, store))), nil)) {
				t.Fatal("the record of the version before was not in clear")
			}
			time.Sleep(2 * time.Second)
			if showsSecrets(bytes.Join(slices.Collect(maps.Values(stored(t, store))), nil)) {
				t.Error("still in clear after two seconds")
			}
		})
		life(t, store, v, func(l *location.Location) { wantWhole(t, l) })
	})
}

func TestAfterOneStartWithBothKeysTheOldOneMayGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, first, second := &location.Memory{}, vault.NewKey(), vault.NewKey()
		life(t, store, newVault(t, first), func(l *location.Location) {
			b, tokens := secretive()
			mustBind(t, l, b, tokens...)
		})
		life(t, store, newVault(t, second, first), func(l *location.Location) { wantWhole(t, l) })
		life(t, store, newVault(t, second), func(l *location.Location) { wantWhole(t, l) })
	})
}

func TestDevicesOfALostKeyStopTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &location.Memory{}
		life(t, store, newVault(t, vault.NewKey()), func(l *location.Location) {
			b, tokens := secretive()
			mustBind(t, l, b, tokens...)
			b = binding("g")
			b.AOR, b.Token = bobs, "B0B"
			mustBind(t, l, b)
		})
		before := fmt.Sprint(stored(t, store))
		for name, v := range map[string]*vault.Vault{"another key": newVault(t, vault.NewKey()), "no key": nil} {
			l := location.New(location.Config{Vault: v}, store, nil)
			if err := l.Load(t.Context()); !errors.Is(err, vault.ErrKey) || !strings.Contains(err.Error(), "2 of 2 devices") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if fmt.Sprint(stored(t, store)) != before {
			t.Error("the store was changed")
		}
	})
}

func TestASealedRecordInAnothersPlaceIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, v := &location.Memory{}, newVault(t, vault.NewKey())
		life(t, store, v, func(l *location.Location) {
			b, tokens := secretive()
			mustBind(t, l, b, tokens...)
			b = binding("g")
			b.AOR, b.Token = bobs, "B0B"
			mustBind(t, l, b, voip("bobs-token"))
		})
		// Whoever can write to the store gives bob's record alice's secrets.
		var mine, theirs string
		for key, value := range stored(t, store) {
			if bytes.Contains(value, []byte(bobs)) {
				theirs = key
			} else {
				mine = key
			}
		}
		all := stored(t, store)
		_, sealed, _ := strings.Cut(string(all[mine]), `"sealed":"`)
		head, _, _ := strings.Cut(string(all[theirs]), `"sealed":"`)
		if err := store.Put(theirs, []byte(head+`"sealed":"`+sealed)); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		l := location.New(location.Config{Vault: v}, store, slog.New(slog.NewTextHandler(&said, nil)))
		if err := l.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(l.Lookup(bobs)) != 0 || !strings.Contains(said.String(), theirs) {
			t.Errorf("taken, or not told of: %s", said.String())
		}
		wantWhole(t, l)
	})
}

func stored(t *testing.T, store *location.Memory) map[string][]byte {
	t.Helper()
	all, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func BenchmarkSaveSealed(b *testing.B) {
	v, err := vault.New(vault.NewKey())
	if err != nil {
		b.Fatal(err)
	}
	for name, v := range map[string]*vault.Vault{"clear": nil, "sealed": v} {
		b.Run(name, func(b *testing.B) {
			l := location.New(location.Config{Vault: v}, &nowhere{}, nil)
			reg, tokens := secretive()
			mustBind(b, l, reg, tokens...)
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Save(alicesPhone); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
