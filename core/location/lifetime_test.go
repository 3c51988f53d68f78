package location_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/location"
)

func TestB29_ADeviceWithATokenOutlivesItsBinding(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("f"), voip("v1"))
		time.Sleep(time.Hour) // the phone sleeps on a flow that looks alive
		synctest.Wait()
		d, b, ok := l.ByToken("T0KEN")
		if !ok || !b.Expired(time.Now()) || d.Flow() != "" || len(l.ByFlow("f")) != 0 {
			t.Errorf("after its expiry: found %v, binding %+v", ok, b)
		}
		wantTokens(t, l, alicesPhone, "v1")
		time.Sleep(keep - time.Hour - time.Second)
		wantTokens(t, l, alicesPhone, "v1")
		time.Sleep(time.Second)
		synctest.Wait()
		if _, _, ok := l.ByToken("T0KEN"); ok {
			t.Error("kept longer than device_keep")
		}
	})
}

func TestB29_EachRegistrationBeginsTheKeepAnew(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("f"), voip("v1"))
		time.Sleep(keep / 2)
		mustBind(t, l, binding("g"), voip("v1"))
		time.Sleep(keep - time.Second)
		wantTokens(t, l, alicesPhone, "v1")
	})
}

func TestB29_ADeviceWithoutAUsableTokenEndsWithItsBinding(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("f"))
		time.Sleep(time.Hour)
		synctest.Wait()
		if devices, live := l.Count(); devices != 0 || live != 0 {
			t.Errorf("without a token: %d devices, %d live", devices, live)
		}
		mustBind(t, l, binding("f"), voip("v1"))
		time.Sleep(2 * time.Hour)
		dead(l, alicesPhone, "apns", "voip", "v1", "Unregistered", time.Time{})
		if devices, _ := l.Count(); devices != 0 {
			t.Error("with a dead token alone it is kept")
		}
	})
}

func TestB29_ExpiresZeroRemovesBindingDeviceAndTokensAtOnce(t *testing.T) {
	remove := map[string]func(*location.Location){
		"Expires: 0": func(l *location.Location) { l.Unbind(alicesPhone, 1) },
		"Contact: *": func(l *location.Location) { l.Remove(alicesPhone) },
	}
	for name, gone := range remove {
		t.Run(name, func(t *testing.T) {
			store := &location.Memory{}
			test(t, store, func(t *testing.T, l *location.Location) {
				mustBind(t, l, binding("f"), voip("v1"), alert("a1"))
				gone(l)
				gone(l) // once more is no error
				if _, _, ok := l.ByToken("T0KEN"); ok || len(l.Lookup(alice)) != 0 || len(l.ByFlow("f")) != 0 {
					t.Error("still found")
				}
				if err := l.Save(alicesPhone); err != nil {
					t.Fatal(err)
				}
				if all, _ := store.Load(t.Context()); len(all) != 0 {
					t.Error("still stored")
				}
				l.Unbind(location.DeviceID{AOR: bobs}, 0)
			})
		})
	}
}

func TestR18_ATokenAtAnotherAORMoves(t *testing.T) {
	store := &location.Memory{}
	test(t, store, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("f"), voip("v1"), alert("a1"))
		other := binding("g")
		other.AOR, other.Token = bobs, "B0B"
		mustBind(t, l, other, voip("v1"))
		wantTokens(t, l, alicesPhone, "a1")
		wantTokens(t, l, other.ID(), "v1")
		// The same value of another app, or of another kind, is another token.
		apart := voip("v1")
		apart.App = "org.example.other"
		third := binding("h")
		third.AOR, third.Token = "sip:carol@example.com", "CAR0L"
		mustBind(t, l, third, apart, alert("v1"))
		wantTokens(t, l, other.ID(), "v1")

		again := location.New(location.Config{}, store, nil)
		if err := again.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantTokens(t, again, alicesPhone, "a1")
		wantTokens(t, again, other.ID(), "v1")
	})
}

func TestARegistrationWithoutTokensTakesThemAway(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("f"), voip("v1"))
		dead(l, alicesPhone, "apns", "voip", "v1", "Unregistered", time.Time{})
		mustBind(t, l, binding("f"))
		wantTokens(t, l, alicesPhone)
		mustBind(t, l, binding("f"), voip("v1"))
		if tok := device(l, alicesPhone).Tokens[0]; tok.Dead {
			t.Error("a token that was taken away and brought anew is still dead")
		}
	})
}

func TestB19_P11_ATokenIsDeadUntilTheClientBringsANewOne(t *testing.T) {
	registered := time.Date(2026, 1, 1, 0, 0, 0, 600e6, time.UTC)
	tests := map[string]struct {
		since time.Time
		dead  bool
	}{
		"the provider gave no time":                       {time.Time{}, true},
		"dead since after the registration":               {registered.Add(time.Minute), true},
		"dead since the very second, cut by the provider": {registered.Truncate(time.Second), true},
		"the client brought it again since":               {registered.Add(-time.Minute), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
				b := binding("f")
				b.Registered, b.Expires = registered, time.Now().Add(time.Hour)
				mustBind(t, l, b, voip("v1"), alert("a1"))
				dead(l, alicesPhone, "apns", "voip", "v1", "Unregistered", tt.since)
				dead(l, alicesPhone, "fcm", "voip", "v1", "another provider", time.Time{})
				dead(l, location.DeviceID{AOR: bobs}, "apns", "voip", "v1", "nobody", time.Time{})
				d := device(l, alicesPhone)
				if d.Tokens[0].Dead != tt.dead || d.Tokens[0].LastError != "Unregistered" || d.Tokens[1].Dead {
					t.Errorf("tokens %+v, want dead %v", d.Tokens, tt.dead)
				}
				mustBind(t, l, binding("f"), voip("v1"), alert("a1"))
				if d = device(l, alicesPhone); d.Tokens[0].Dead != tt.dead {
					t.Error("a refresh with the same token changed the verdict")
				}
				mustBind(t, l, binding("f"), voip("v2"), alert("a1"))
				if d = device(l, alicesPhone); d.Tokens[0].Dead || d.Tokens[0].LastError != "" {
					t.Error("the new token is dead too")
				}
			})
		})
	}
}

func TestB21_ARestartKeepsDevicesAndWaitsForTheirFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &location.Memory{}
		running(t, store, func(l *location.Location) {
			mustBind(t, l, binding("edge1/1/a"), voip("v1"), alert("a1"))
			time.Sleep(time.Second)
			l.Woken(alicesPhone, time.Now())
			dead(l, alicesPhone, "apns", "voip", "v1", "Unregistered", time.Time{})
		})
		woken := time.Now()
		time.Sleep(time.Minute)
		running(t, store, func(l *location.Location) {
			d := device(l, alicesPhone)
			if d.Flow() != "" || len(l.ByFlow("edge1/1/a")) != 0 || !d.FlowLost().Equal(time.Now()) {
				t.Errorf("flow %q, lost %v; want none, lost at the restart", d.Flow(), d.FlowLost())
			}
			if !d.LastWake.Equal(woken) || !d.Tokens[0].Dead || d.Class != "split" {
				t.Errorf("device %+v", d)
			}
			if b := l.Reattach("edge1/1/a"); len(b) != 1 || b[0].Contact != binding("").Contact || b[0].Edge != "edge1" {
				t.Errorf("the flow attached to %v", b)
			}
			if device(l, alicesPhone).Flow() != "edge1/1/a" {
				t.Error("the flow is not live again")
			}
		})
	})
}

func TestARestartForgetsWhatEndedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &location.Memory{}
		running(t, store, func(l *location.Location) {
			mustBind(t, l, binding("f"))
			b := binding("g")
			b.AOR, b.Token = bobs, "B0B"
			mustBind(t, l, b, voip("v1"))
		})
		time.Sleep(2 * time.Hour)
		running(t, store, func(l *location.Location) {
			if _, ok := l.Device(alicesPhone); ok || len(l.Reattach("g")) != 0 || len(l.Lookup(bobs)) != 1 {
				t.Error("want alice gone, and bob kept without a flow")
			}
		})
		if all, _ := store.Load(t.Context()); len(all) != 1 {
			t.Errorf("%d records stored, want bob's", len(all))
		}
	})
}

func TestAnUnreadableRecordIsSkippedNamedAndKept(t *testing.T) {
	store := &location.Memory{}
	for key, value := range map[string]string{"torn": `{"v":1,"aor":"sip:al`, "newer": `{"v":3}`, "misplaced": `{"v":1,"aor":"sip:a@b"}`} {
		if err := store.Put(key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	var said bytes.Buffer
	l := location.New(location.Config{}, store, slog.New(slog.NewTextHandler(&said, nil)))
	if err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if devices, _ := l.Count(); devices != 0 {
		t.Errorf("%d devices", devices)
	}
	for _, key := range []string{"torn", "newer", "misplaced"} {
		if !strings.Contains(said.String(), "key="+key) {
			t.Errorf("the log does not name %s:\n%s", key, said.String())
		}
	}
	if all, _ := store.Load(t.Context()); len(all) != 3 {
		t.Error("a record that this version cannot read was destroyed")
	}
}

func TestAFullDiskIsToldAndTriedAgain(t *testing.T) {
	store := &flaky{}
	test(t, store, func(t *testing.T, l *location.Location) {
		store.fill(true)
		err := l.Bind(binding("f"), []location.Token{voip("v1")}, "")
		if !errors.Is(err, location.ErrNotStored) || !errors.Is(err, errDisk) {
			t.Errorf("got %v, want ErrNotStored with its cause", err)
		}
		if device(l, alicesPhone).Flow() != "f" {
			t.Error("the binding does not hold")
		}
		before := store.tries()
		time.Sleep(10 * time.Second)
		if tries := store.tries() - before; tries < 5 || tries > 15 {
			t.Errorf("%d tries in 10 s, want one a second", tries)
		}
		store.fill(false)
		time.Sleep(2 * time.Second)
		if all, _ := store.Load(t.Context()); len(all) != 1 {
			t.Error("not stored when the disk had room again")
		}
	})
}

func TestNothingPrivateInLogs(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	b := binding("edge1/1/a")
	log.Info("x", "aor", location.AOR(alice), "id", alicesPhone, "binding", b, "token", voip("0123456789abcdef"), "odd", location.AOR("tel:+4912345"))
	for _, secret := range []string{"alice", "7dec-11d0", "10.0.0.1", "T0KEN", "0123456789", "4912345"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the log shows %q: %s", secret, out.String())
		}
	}
	for _, fact := range []string{"sip:a…@example.com", "…1e6bf6", "edge1/1/a", "…abcdef"} {
		if !strings.Contains(out.String(), fact) {
			t.Errorf("the log lacks %q: %s", fact, out.String())
		}
	}
	if location.AOR(alice).Reveal() != alice {
		t.Error("Reveal hides")
	}
}

// nowhere is a store that keeps nothing, so that the benchmark weighs Location.
type nowhere struct{ location.Memory }

func (*nowhere) Put(string, []byte) error { return nil }

// BenchmarkMemory reports the heap of one device with one binding and two
// tokens; the budget is 3 KiB.
func BenchmarkMemory(b *testing.B) {
	const devices = 20000
	for b.Loop() {
		l := location.New(location.Config{}, &nowhere{}, nil)
		before := heap()
		for i := range devices {
			reg := binding(fmt.Sprintf("edge1.example.com/17694a3f00000001/%032x", i))
			reg.AOR = fmt.Sprintf("sip:user%d@example.com", i)
			reg.Instance = fmt.Sprintf("<urn:uuid:00000000-0000-4000-8000-%012x>", i)
			reg.Contact = fmt.Sprintf("<sip:user%d@10.0.0.1:5061;transport=tls;pn-provider=apns;pn-param=ABCDE12345.org.example.phone.voip&remote;pn-prid=%064x:voip&%064x:remote>;reg-id=1;+sip.instance=%q", i, i, i, reg.Instance)
			reg.URI = fmt.Sprintf("sip:user%d@10.0.0.1:5061;transport=tls", i)
			reg.CallID, reg.Token = fmt.Sprintf("%032x", i), fmt.Sprintf("%040x", i)
			reg.Transport, reg.Public, reg.UserAgent = "tls", "edge1.example.com:5061", "LinphoneiOS/5.2 (iPhone) LinphoneSDK/5.3"
			reg.Identities = []string{"sip:100@example.com"}
			if err := l.Bind(reg, []location.Token{voip(fmt.Sprintf("%064x", i)), alert(fmt.Sprintf("%064x", i))}, "split"); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heap()-before)/devices, "B/device")
		runtime.KeepAlive(l)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkByToken(b *testing.B) {
	l := location.New(location.Config{}, &nowhere{}, nil)
	mustBind(b, l, binding("f"), voip("v1"), alert("a1"))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := l.ByToken("T0KEN"); !ok {
			b.Fatal("not found")
		}
	}
}
