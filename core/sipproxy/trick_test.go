package sipproxy

import (
	"testing"
)

func TestAFakeDialogReachesNobody(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		alice, bob := w.phone("alice", "tls"), w.phone("bob", "wss")
		alice.joins(0)
		bob.joins(0)
		_, fromBob := talk(t, alice, bob)
		for _, method := range []string{"MESSAGE", "INVITE", "NOTIFY", "ACK"} {
			lie := with(with(fromBob(method), "Call-ID", "invented"), "From", `"The CEO" <sip:ceo@demo.example>;tag=1`)
			bob.say(lie...)
			if method != "ACK" {
				bob.hears("SIP/2.0 403")
			}
		}
		alice.silence()
	})
}

func TestTheSealOfOneDialogDoesNotLeadToAnotherInstance(t *testing.T) {
	each(t, []int{2}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[1].awake()
		ok := w.dialog(ph)
		victim := phones[0].awake()
		lie := without(ph.inDialog("INFO", ok, sealedIn(ok)), "Route")
		ph.say(append(lie, "Route: <sip:"+sealedIn(ok)+"@"+public+";lr>", "Route: <sip:"+w.token(victim)+"@"+public+";lr>")...)
		w.pbx.hears("INFO") // to the PBX, as the seal says, with the rest of the Route
		victim.silence()
	})
}

func TestAnIdentityThatIsNotTheFlowsIsForbiddenWhereverItStands(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		for _, lie := range [][]string{
			{"P-Preferred-Identity: <sip:ceo@example.com>"},
			{"P-Preferred-Identity: <sip:alice@example.com>", "P-Preferred-Identity: <sip:ceo@example.com>"},
		} {
			ph.say(ph.asks("MESSAGE", "sip:carol@example.com", lie...)...)
			ph.hears("SIP/2.0 403")
			anonymous := with(ph.asks("MESSAGE", "sip:carol@example.com", lie...), "From", "<sip:anonymous@anonymous.invalid>;tag=1")
			ph.say(anonymous...)
			ph.hears("SIP/2.0 403")
		}
		w.pbx.silence()
	})
}
