package interop

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// linphoneSystem is a system with a Linphone as bob, who has two push tokens
// in Linphone's dialect and is registered.
func linphoneSystem(t *testing.T) (*System, *Linphone) {
	t.Helper()
	s := StartSystemAs(t, "localhost")
	bob := s.Linphone("bob", "")
	bob.Expect(within(t, 15*time.Second), "LinphoneRegistrationOk")
	return s, bob
}

func TestQuirkLinphonesTwoTokensAreKnownAndNeverTold(t *testing.T) {
	t.Parallel()
	s, bob := linphoneSystem(t)
	ctx := within(t, 25*time.Second)
	all := s.Clients("sip:bob@example.com")
	if len(all) != 1 || all[0].State != "foreground" || len(all[0].Tokens) != 2 {
		t.Fatalf("the core has %+v, want one client in the foreground with two tokens", all)
	}
	if kinds := all[0].Tokens[0].Kind + " " + all[0].Tokens[1].Kind; kinds != "voip alert" && kinds != "alert voip" {
		t.Errorf("the tokens are for %s, want one each for calls and messages", kinds)
	}
	for _, c := range s.PBX.Contacts(t, "bob") {
		if strings.Contains(c, "pn-") {
			t.Errorf("the PBX was given %q", c)
		}
	}
	// Linphone repeats its contact, tokens and all, in its INVITE.
	callee := StartCallee(t, "uas")
	bob.Do("call sip:" + callee.User + "@example.com")
	bob.Expect(ctx, "LinphoneCallStreamsRunning")
	bob.Do("terminate")
	must(t, callee.Wait(ctx))
	sent, err := os.ReadFile(filepath.Join(bob.Dir, "log"))
	must(t, err)
	if _, invite, _ := strings.Cut(string(sent), "\nINVITE sip:"); !strings.Contains(invite, "pn-prid=") {
		t.Error("this Linphone does not put its tokens into its INVITE: the test shows nothing")
	}
	got, err := os.ReadFile(filepath.Join(callee.dir, "messages"))
	must(t, err)
	if !strings.Contains(string(got), "INVITE") || strings.Contains(string(got), "pn-") {
		t.Errorf("the callee got\n%s", got)
	}
}

func TestAStoppedLinphoneIsPushedAndRingsWhenItGoesOn(t *testing.T) {
	t.Parallel()
	s, bob := linphoneSystem(t)
	ctx := within(t, 25*time.Second)
	must(t, syscall.Kill(bob.PID(), syscall.SIGSTOP))
	caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "bob"})
	said := s.Pushed(1)
	if said["channel"] != "voip" {
		t.Errorf("the push says %v", said)
	}
	must(t, syscall.Kill(bob.PID(), syscall.SIGCONT))
	bob.Expect(ctx, "LinphoneCallIncomingReceived")
	bob.Do("answer")
	bob.Expect(ctx, "LinphoneCallStreamsRunning")
	must(t, caller.Wait(ctx))
}

func TestAKilledLinphoneIsPushedAndRingsWhenItStartsAgain(t *testing.T) {
	// A Linphone that was killed before it wrote its instance down makes up another.
	for name, forgets := range map[string]bool{"as the same instance": false, "as another instance": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, bob := linphoneSystem(t)
			ctx := within(t, 25*time.Second)
			before := s.Clients("sip:bob@example.com")
			bob.Kill()
			s.untilAsleep("sip:bob@example.com")
			caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "bob"})
			s.Pushed(1)
			if forgets {
				bob.forgetInstance()
			}
			again := s.Linphone("bob", bob.Dir)
			again.Expect(ctx, "LinphoneCallIncomingReceived")
			again.Do("answer")
			again.Expect(ctx, "LinphoneCallStreamsRunning")
			again.Expect(ctx, "LinphoneCallEnd")
			must(t, caller.Wait(ctx))
			if n := len(s.APNs.Accepted()); n != 1 {
				t.Errorf("%d pushes, want the one of the call", n)
			}
			awake := slices.DeleteFunc(s.Clients("sip:bob@example.com"), func(c Client) bool { return c.State != "foreground" })
			if len(awake) != 1 || forgets == (awake[0].Instance == before[0].Instance) {
				t.Errorf("awake are %v, before it was %v", awake, before)
			}
		})
	}
}
