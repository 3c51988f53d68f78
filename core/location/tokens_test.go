package location_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/location"
)

func of(t location.Token) location.TokenID {
	return location.TokenID{Provider: t.Provider, Kind: t.Kind, Value: t.Value}
}

func TestP11_TokensOfADeviceLiveAndDieApart(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("f"), voip("v1"), alert("a1"))
		dead(l, alicesPhone, "apns", "voip", "v1", "Unregistered", time.Time{})
		if d := device(l, alicesPhone); !d.Tokens[0].Dead || d.Tokens[1].Dead || d.Tokens[1].LastError != "" {
			t.Fatalf("after a 410 for the VoIP token: %+v", d.Tokens)
		}
		// One is replaced; the other keeps what is known of it.
		l.Told(alicesPhone, location.Answer{Token: of(alert("a1")), At: time.Now(), Reason: "BadDeviceToken", Suspect: true})
		mustBind(t, l, binding("f"), voip("v2"), alert("a1"))
		if d := device(l, alicesPhone); d.Tokens[0].Dead || d.Tokens[1].Suspects != 1 {
			t.Errorf("after a new VoIP token: %+v", d.Tokens)
		}
	})
}

func TestADeviceHasOneTokenPerAppAndKind(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		other := voip("v9")
		other.App = "org.example.other"
		mustBind(t, l, binding("f"), voip("v1"), voip("v2"), alert("a1"), other)
		wantTokens(t, l, alicesPhone, "v1", "a1", "v9")
	})
}

func TestKeysAreReplacedWithTheirToken(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		b, tokens := secretive()
		mustBind(t, l, b, tokens...)
		tokens[0].Auth = "another"
		mustBind(t, l, b, tokens...)
		if got := device(l, alicesPhone).Tokens[0]; got.Auth != "another" || got.Key != secretKey {
			t.Errorf("auth %q, key %q", got.Auth, got.Key)
		}
		mustBind(t, l, b, voip(secretToken))
		if got := device(l, alicesPhone).Tokens[0]; got.Auth != "" || got.Key != "" {
			t.Errorf("the client has no key any more, and is encrypted for: %q, %q", got.Key, got.Auth)
		}
	})
}

func TestAQuarantineLastsUntilAPushIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &location.Memory{}
		suspect := location.Answer{Token: of(voip("v1")), Reason: "BadDeviceToken", Suspect: true}
		running(t, store, func(l *location.Location) {
			mustBind(t, l, binding("f"), voip("v1"))
			for range 3 {
				suspect.At = time.Now()
				l.Told(alicesPhone, suspect)
			}
			mustBind(t, l, binding("f"), voip("v1"))
		})
		running(t, store, func(l *location.Location) {
			got := device(l, alicesPhone).Tokens[0]
			if got.Suspects != 3 || got.LastError != "BadDeviceToken" || !got.LastErrorAt.Equal(suspect.At) || got.Dead {
				t.Fatalf("after a restart: %+v", got.Verdict)
			}
			l.Told(alicesPhone, location.Answer{Token: of(voip("v1")), At: time.Now(), Accepted: true})
			if got = device(l, alicesPhone).Tokens[0]; got.Suspects != 0 || !got.LastOK.Equal(time.Now()) {
				t.Errorf("after an accepted push: %+v", got.Verdict)
			}
		})
	})
}

func TestR18_TheVerdictMovesWithTheToken(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		mustBind(t, l, binding("f"), voip("v1"), alert("a1"))
		dead(l, alicesPhone, "apns", "voip", "v1", "Unregistered", time.Time{})
		other := binding("g")
		other.AOR, other.Token = bobs, "B0B"
		mustBind(t, l, other, voip("v1"))
		if got := device(l, other.ID()).Tokens[0]; !got.Dead {
			t.Error("a dead token is alive at another AOR")
		}
		wantTokens(t, l, alicesPhone, "a1")
	})
}

func TestP32_ADeviceIsDeafAfterThreeMissesWhileMessagesWakeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &location.Memory{}
		scored := func(l *location.Location, call, woke bool) {
			time.Sleep(time.Minute)
			token := alert("a1")
			if call {
				token = voip("v1")
			}
			l.Scored(alicesPhone, location.Wake{Token: of(token), Call: call, At: time.Now(), Woke: woke})
		}
		running(t, store, func(l *location.Location) {
			mustBind(t, l, binding("f"), voip("v1"), alert("a1"))
			scored(l, false, true) // before the first miss: it proves nothing
			scored(l, true, false)
			scored(l, true, false)
			scored(l, true, false)
			if device(l, alicesPhone).Deaf() {
				t.Error("deaf, although nothing woke it: it may be off")
			}
			scored(l, false, true)
			if d := device(l, alicesPhone); !d.Deaf() || !d.DeafTo(d.Tokens[0]) || d.DeafTo(d.Tokens[1]) {
				t.Errorf("not deaf after three misses and a message that woke it: %+v", d.Tokens)
			}
		})
		running(t, store, func(l *location.Location) {
			d := device(l, alicesPhone)
			if c := d.Tokens[0].Calls; !d.Deaf() || c.Missed != 3 || c.Woke != 0 || d.Tokens[1].Notes.Woke != 2 {
				t.Errorf("after a restart: %+v", d.Tokens)
			}
			scored(l, true, true)
			if d := device(l, alicesPhone); d.Deaf() || d.Tokens[0].Calls.Woke != 1 {
				t.Errorf("still deaf after it woke: %+v", d.Tokens)
			}
			scored(l, true, false)
			scored(l, true, false)
			scored(l, false, true)
			if device(l, alicesPhone).Deaf() {
				t.Error("deaf after two misses")
			}
			mustBind(t, l, binding("f"), voip("v2"), alert("a1"))
			if d := device(l, alicesPhone); d.Tokens[0].Calls != (location.Score{}) {
				t.Error("a new token has the score of the old one")
			}
		})
	})
}

// Without its alert token, a device of a class that nobody declared would get
// messages by its VoIP token, and iOS end the app that gets them.
func TestADeviceThatLosesItsAlertTokenStaysSplit(t *testing.T) {
	test(t, &location.Memory{}, func(t *testing.T, l *location.Location) {
		if err := l.Bind(binding("f"), []location.Token{voip("v1"), alert("a1")}, ""); err != nil {
			t.Fatal(err)
		}
		other := binding("g")
		other.AOR, other.Token = bobs, "0THER"
		if err := l.Bind(other, []location.Token{alert("a1")}, ""); err != nil {
			t.Fatal(err)
		}
		wantTokens(t, l, alicesPhone, "v1")
		if d := device(l, alicesPhone); d.Class != "split" {
			t.Errorf("class %q, want split", d.Class)
		}
	})
}
