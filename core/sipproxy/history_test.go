package sipproxy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push"
)

// B17 over histories that nobody thought of: no VoIP push leaves without a
// ringing call behind it, and who was pushed and not told by SIP hears once what
// became of the call.

// histories are told in one town, one after the other, to two phones of alice's.
const histories = 250 // of each pair of providers

// A history is one call, and what happened to it.
type history struct {
	w      *town
	rng    *rand.Rand
	c      *call
	phones []*actor

	over     bool
	overAt   time.Time
	answered bool
	late     bool // answered when carol had hung up
	declined bool
	said     []string // for whoever has to find out what went wrong
}

// An actor is a phone that does what phones do.
type actor struct {
	*phone
	up      bool
	invite  string   // rings with it
	invited []string // Call-IDs it had an INVITE of
}

func TestB17_NoPushLeavesWithoutARingingCallOver1000Histories(t *testing.T) {
	for i, pair := range [][2]string{{"apns", "apns"}, {"apns", "fcm"}, {"fcm", "webpush"}, {"webpush", "apns"}} {
		t.Run(strings.Join(pair[:], " and "), func(t *testing.T) {
			inTown(t, func(t *testing.T, w *town) {
				phones := []*actor{{phone: w.phone("alice", "tls").of(pair[0])}, {phone: w.phone("alice2", "wss").of(pair[1])}}
				rng := rand.New(rand.NewPCG(8599, uint64(i)))
				for n := range histories {
					h := &history{w: w, rng: rng, phones: phones}
					h.tell(fmt.Sprint("call-", n))
					h.judge()
					if t.Failed() {
						t.Fatalf("history %d: %s", n, strings.Join(h.said, ", "))
					}
				}
			})
		})
	}
}

func (h *history) note(format string, args ...any) {
	h.said = append(h.said, fmt.Sprintf("%v ", time.Now().Format("05.000"))+fmt.Sprintf(format, args...))
}

func (h *history) tell(callID string) {
	w := h.w
	for _, a := range h.phones {
		a.invite, a.invited = "", nil
		if h.rng.IntN(3) == 0 || a.script == nil {
			h.wake(a)
		}
	}
	pass(20 * time.Second)
	for _, a := range h.phones {
		if a.up && h.rng.IntN(2) == 0 {
			a.sleeps()
			a.up = false
		}
	}
	pass(time.Duration(h.rng.IntN(2)) * 30 * time.Second) // within the grace, or long after it
	w.pushes.mu.Lock()
	w.pushes.calls, w.pushes.called, w.pushes.notes, w.pushes.noted = nil, nil, nil, nil
	w.pushes.connect = time.Duration(h.rng.IntN(3)) * time.Duration(h.rng.IntN(2000)) * time.Millisecond
	w.pushes.delay = time.Duration(h.rng.IntN(1000)) * time.Millisecond
	w.pushes.onCall = func(c push.Call) {
		if h.over && h.overAt.Add(h.beside()).Before(time.Now()) || c.CallID != callID {
			w.t.Errorf("a push left for %s, %v after it was over", c.CallID, time.Since(h.overAt))
		}
	}
	w.pushes.mu.Unlock()
	h.c = w.invites(aliceAOR, callID)
	h.settle()
	for range 2 + h.rng.IntN(6) {
		h.step()
	}
	pass(time.Duration(h.rng.IntN(2)) * 20 * time.Second)
	h.settle()
	h.cancel() // whoever is patient gives up
	for range 4 {
		pass(20 * time.Second)
		h.settle()
	}
}

// step lets time pass and something happen.
func (h *history) step() {
	pass(time.Duration(h.rng.IntN(4000)) * time.Millisecond)
	h.settle()
	a := h.phones[h.rng.IntN(len(h.phones))]
	switch h.rng.IntN(8) {
	case 0, 1:
		if !a.up {
			h.wake(a)
		}
	case 2:
		if a.up {
			h.note("%s sleeps", a.callID)
			a.sleeps()
			a.up, a.invite = false, ""
		}
	case 3:
		h.cancel()
	case 4, 5, 6:
		if status := []int{200, 486, 603}[h.rng.IntN(3)]; a.invite != "" {
			h.note("%s says %d", a.callID, status)
			a.say(reply(a.invite, status, "Contact: <"+a.uri()+">")...)
			a.invite = ""
		}
	}
	h.settle()
}

func (h *history) wake(a *actor) {
	if h.c != nil {
		h.note("%s wakes", a.callID)
	}
	a.connects().say(a.register()...)
	a.up = true
	h.settle()
}

func (h *history) cancel() {
	if !h.over {
		h.note("carol hangs up")
		h.end()
		h.w.pbx.say(inviteOf(h.c.invite, "CANCEL")...)
	}
}

func (h *history) end() {
	if !h.over {
		h.over, h.overAt = true, time.Now()
	}
}

// beside is how long a push may leave once the call is over: beside the answer
// of the device itself (B4), for a moment.
func (h *history) beside() time.Duration {
	if h.answered {
		return besideAnswer
	}
	return 0
}

// settle has everybody answer what they heard, until there is nothing more.
func (h *history) settle() {
	for again := true; again; {
		synctest.Wait()
		again = false
		for _, m := range h.w.pbx.takes() {
			again = true
			h.atPBX(m)
		}
		for _, a := range h.phones {
			if a.script == nil {
				continue
			}
			for _, m := range a.takes() {
				again = true
				h.atPhone(a, m)
			}
		}
	}
}

// takes are all messages that were heard and not taken.
func (s *script) takes() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, s.heard = s.heard, nil
	return all
}

func (h *history) atPBX(m string) {
	say := h.w.pbx.say
	cseq := first(m, "CSeq")
	switch {
	case strings.HasPrefix(m, "REGISTER"):
		say(reply(m, 200, "Contact: "+first(m, "Contact"))...)
	case !strings.HasPrefix(m, "SIP/2.0") || m[8] == '1' || !strings.HasSuffix(cseq, "INVITE"):
	case m[8] == '2':
		h.note("answered")
		if h.late = h.over; !h.over {
			h.answered = true
		}
		h.end()
		say(dialogRequest("ACK", m)...)
		say(dialogRequest("BYE", m)...)
	default:
		h.note("ends with %s", m[8:11])
		h.end()
		h.declined = h.declined || m[8] == '6'
		say(inviteOf(h.c.invite, "ACK")...)
	}
}

func (h *history) atPhone(a *actor, m string) {
	switch method, _, _ := strings.Cut(m, " "); method {
	case "INVITE":
		h.note("%s rings", a.callID)
		a.invite, a.invited = m, append(a.invited, first(m, "Call-ID"))
		if h.rng.IntN(4) > 0 {
			a.say(reply(m, 180, "Contact: <"+a.uri()+">")...)
		}
	case "CANCEL":
		a.say(reply(m, 200)...)
		if a.invite != "" {
			a.say(reply(a.invite, 487)...)
			a.invite = ""
		}
	case "BYE":
		a.say(reply(m, 200)...)
	}
}

// judge looks at what was pushed.
func (h *history) judge() {
	h.w.pushes.mu.Lock()
	defer h.w.pushes.mu.Unlock()
	count := func(devices []string, a *actor, event string) (n int) {
		for i, d := range devices {
			if d == a.id().String() && (event == "" || h.w.pushes.notes[i].Event == event) {
				n++
			}
		}
		return n
	}
	for _, a := range h.phones {
		calls, missed := count(h.w.pushes.called, a, ""), count(h.w.pushes.noted, a, "missed")
		elsewhere := count(h.w.pushes.noted, a, "answered_elsewhere")
		switch unseen := !slices.Contains(a.invited, h.c.id); {
		case calls > 1, missed+elsewhere > 1:
			h.w.t.Errorf("%s: %d VoIP pushes, %d missed, %d answered elsewhere", a.callID, calls, missed, elsewhere)
		case missed > 0 && (h.answered || h.declined), elsewhere > 0 && !h.answered && !h.late:
			h.w.t.Errorf("%s: %d missed, %d elsewhere of a call that was answered: %v, declined: %v", a.callID, missed, elsewhere, h.answered, h.declined)
		case calls == 1 && unseen && !h.declined && missed+elsewhere == 0:
			h.w.t.Errorf("%s was pushed, got no INVITE, and is told nothing", a.callID)
		}
	}
}
