package push

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what the service is told. The zero value sends nothing.
type Config struct {
	// Enabled is false where the operator wants no push at all (B14).
	Enabled bool
	// Secret makes the names by which notes of a conversation are grouped; cores
	// that serve the same devices share it.
	Secret []byte
	// Keep is how long a provider may keep a note for a device that is
	// offline; 0 is a day. A note that goes by the VoIP channel is never kept.
	Keep time.Duration
	// Queue is how many notes may wait in memory, and as many on their way to the
	// outbox; 0 is 1024.
	Queue int
	// Workers is how many notes an app is sent at a time; 0 is 32.
	Workers int
	// PerMinute is how many pushes on the Message channel a device may get; 0 is
	// 20.
	PerMinute int
	// Quiet are the quiet hours; of several rules the first that fits counts.
	Quiet []QuietRule
	// DND keeps who is not to be disturbed; nil forgets it with the process.
	DND DNDStore
	// Targets returns a device as it stands now; nil knows none.
	Targets func(device string) (Target, bool)
	// Feedback is told what a provider answered, before anybody else hears of it:
	// token, outcome, reason. It must not call back into the service. nil is told
	// nothing.
	Feedback func(device string, r Result)
	// Outbox keeps the notes for devices that have a name, with Sealer for what
	// they say; without both, or without Targets, they wait in memory.
	Outbox Outbox
	Sealer Sealer
}

// callKeep is how long a provider that stores pushes may keep a call's. What
// arrives later finds the wake window over.
const callKeep = 10 * time.Second

// noteTimeout bounds one note, with its second attempt.
const noteTimeout = 35 * time.Second

// Service sends calls and notes to devices. A call is sent on the caller's
// goroutine and waits for nobody; notes that are posted wait in a queue. All
// methods are safe for concurrent use.
type Service struct {
	// Static after New.
	cfg     Config
	apps    []App
	log     *slog.Logger
	metrics *metrics
	// suspicions has an entry for each of apps.
	suspicions map[*App]*suspicion
	quiet      *quiet
	tally      *laneMetrics
	life       string // names this service among all that share the outbox
	lane       *lane
	dones      *dones
	writes     [writers]chan write // by device, so that its notes keep their order
	seed       maphash.Seed
	memory     chan *row            // rows in memory, on their way to the lane
	hints      chan func(time.Time) // words, on their way to the lane

	inMemory atomic.Int64 // rows that are in memory alone

	unfit, unsaved once // have their own locks
}

// New makes a service of the apps, which the service does not change. log and
// reg may be nil.
func New(cfg Config, apps []App, log *slog.Logger, reg prometheus.Registerer) *Service {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Keep <= 0 {
		cfg.Keep = 24 * time.Hour
	}
	if cfg.Queue <= 0 {
		cfg.Queue = 1024
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 32
	}
	if cfg.PerMinute <= 0 {
		cfg.PerMinute = 20
	}
	s := &Service{
		cfg:     cfg,
		apps:    append([]App(nil), apps...),
		log:     log.With("room", "push"),
		metrics: newMetrics(reg), suspicions: make(map[*App]*suspicion),
		quiet:  &quiet{rules: cfg.Quiet, store: cfg.DND},
		tally:  newLaneMetrics(reg),
		life:   newLife(),
		dones:  newDones(),
		seed:   maphash.MakeSeed(),
		memory: make(chan *row, cfg.Queue),
		hints:  make(chan func(time.Time), cfg.Queue),
	}
	for i := range s.apps {
		s.suspicions[&s.apps[i]] = &suspicion{}
	}
	for i := range s.writes {
		s.writes[i] = make(chan write, max(cfg.Queue/writers, 1))
	}
	s.lane = newLane(s)
	if reg != nil {
		reg.MustRegister(newConditions(s.apps))
	}
	s.quiet.changed = func(string) { s.hint((*lane).reconsider, word{}) }
	return s
}

// CanCall reports whether a call could be announced to a device. It sends
// nothing and asks nobody.
func (s *Service) CanCall(t Target) bool { return s.can(t, needCall) }

// CanNote is CanCall for notes.
func (s *Service) CanNote(t Target) bool { return s.can(t, needNote) }

func (s *Service) can(t Target, n need) bool {
	if !s.cfg.Enabled {
		return false
	}
	r, _ := find(s.apps, t.Tokens, t.Class, n)
	return r.app != nil
}

// Fit reports the app that t belongs to. Where there is none, reason says why,
// for status and trace; the log is told once for each reason.
func (s *Service) Fit(t Token) (app string, reason string, ok bool) {
	a, reason := fit(s.apps, t)
	if a != nil {
		return a.ID, "", true
	}
	if s.unfit.first(reason) {
		s.log.Warn("push token fits no app", "reason", reason)
	}
	return "", reason, false
}

// Call announces a ringing call to a device, once, and returns the final
// outcome within [CallTimeout] of the moment at which the provider could take
// it. That is at once, unless there is a crowd of calls; then it waits for its
// turn for three quarters of the time that the call rings, since the device
// needs the rest. It never waits behind notes.
func (s *Service) Call(ctx context.Context, t Target, c Call) Result {
	now := time.Now()
	if !c.RingUntil.IsZero() && !now.Before(c.RingUntil) {
		return s.count(Result{Outcome: Refused, Channel: VoIP, Reason: "the call rings no more"}, now)
	}
	r, reason := s.find(t, needCall)
	if r.app == nil {
		return s.count(Result{Outcome: NoRoute, Channel: VoIP, Reason: reason}, now)
	}
	if rest, reason := s.held(r, needCall, now); rest > 0 {
		return s.count(Result{Outcome: Refused, Channel: r.channel, Token: r.token, Reason: reason}, now)
	}
	if q := s.QuietCall(t, c); q.Hold {
		return s.count(Result{Outcome: Quiet, Channel: VoIP, Reason: q.Reason}, now)
	}
	last, until := now.Add(CallTimeout), time.Time{}
	if !c.RingUntil.IsZero() {
		until = now.Add(c.RingUntil.Sub(now) / 4 * 3)
		last = until.Add(CallTimeout)
	}
	ctx, cancel := context.WithDeadline(ctx, last)
	defer cancel()
	n := Notification{
		ID:       pushID("call", c.CallID, r.token),
		Priority: 10,
		Urgent:   true,
		Until:    until,
	}
	if r.app.Provider == ProviderWebPush { // where a device that dozes for a moment gets what waits for it
		n.Expiration = now.Add(callKeep)
		if !c.RingUntil.IsZero() && c.RingUntil.Before(n.Expiration) {
			n.Expiration = c.RingUntil
		}
	}
	return s.send(ctx, t.Device, r, needCall, callPayload(c, now), n)
}

// Note sends a note to a device and returns the final outcome. It may take
// half a minute; see [Service.Post]. In quiet hours it is not sent: the outcome
// is Quiet, and Retry says when to ask again.
func (s *Service) Note(ctx context.Context, t Target, n Note) Result {
	q := s.QuietNote(t, n)
	if q.Hold {
		r := Result{Outcome: Quiet, Channel: Message, Reason: q.Reason, Retry: time.Until(q.Until)}
		if q.Until.IsZero() {
			r.Retry = endless
		}
		return s.count(r, time.Now())
	}
	return s.note(ctx, t, n, q.Passive)
}

// endless is when to ask again about a rule that has no end.
const endless = time.Hour

// Test is Note for an operator's trial: quiet hours do not hold it.
func (s *Service) Test(ctx context.Context, t Target, n Note) Result {
	return s.note(ctx, t, n, s.QuietNote(t, n).Passive)
}

func (s *Service) note(ctx context.Context, t Target, n Note, passive bool) Result {
	now := time.Now()
	want := needNote
	if n.Event == EventRegister {
		want = needRegister
	}
	r, reason := s.find(t, want)
	if r.app == nil {
		return s.count(Result{Outcome: NoRoute, Channel: Message, Reason: reason}, now)
	}
	if rest, reason := s.held(r, needNote, now); rest > 0 {
		return s.count(Result{Outcome: Refused, Channel: r.channel, Token: r.token, Reason: reason, Retry: rest}, now)
	}
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	if n.Sent.IsZero() {
		n.Sent = now
	}
	out := Notification{
		ID:       notePushID(t.Device, n, r.token),
		Priority: 10,
		Passive:  passive,
	}
	s.group(&out, n)
	if r.channel != VoIP {
		if out.Expiration = n.Expires; out.Expiration.IsZero() {
			out.Expiration = now.Add(s.cfg.Keep)
		}
	}
	if n.Event == EventRegister {
		out.Background, out.Priority = true, 5 // Apple refuses more
	}
	return s.send(ctx, t.Device, r, needNote, notePayload(n, out.ID, out.Conversation, passive), out)
}

func (s *Service) find(t Target, n need) (route, string) {
	if !s.cfg.Enabled {
		return route{}, "push is switched off"
	}
	r, reason := find(s.apps, t.Tokens, t.Class, n)
	if r.app == nil {
		for _, token := range t.Tokens {
			s.Fit(token) // for the log
		}
	}
	return r, reason
}

// send completes the notification, hands it over, and sends it once more
// without content if the provider finds it too large.
func (s *Service) send(ctx context.Context, device string, r route, why need, p payload, n Notification) Result {
	start := time.Now()
	n.Token, n.Channel, n.App = r.token, r.channel, r.app.ID
	f, v := formOf(r.app.Provider, r.channel), r.app.viewOf(r.token, why)
	f.write(&n, p, v)
	res := r.app.Sender.Send(ctx, n)
	if res.Status == http.StatusRequestEntityTooLarge {
		f.write(&n, p.limited(v).bare(), view{sender: true, text: true}) // of what is left
		res = r.app.Sender.Send(ctx, n)
	}
	res.Provider, res.App, res.Channel, res.Token, res.ID = r.app.Provider, r.app.ID, r.channel, r.token, n.ID
	s.judge(r.app, &res, time.Now())
	if s.cfg.Feedback != nil {
		s.cfg.Feedback(device, res)
	}
	took := time.Since(start)
	s.metrics.observe(res, took)
	s.audit(device, p.Event, res, took)
	return res
}

// count enters a push that was not sent into metrics and log.
func (s *Service) count(r Result, start time.Time) Result {
	s.metrics.observe(r, time.Since(start))
	level := slog.LevelInfo
	if r.Outcome == NoRoute {
		level = slog.LevelDebug
	}
	s.log.Log(context.Background(), level, "push not sent", "outcome", r.Outcome, "channel", r.Channel, "reason", r.Reason)
	return r
}

// group names what a note belongs to: a later one of the same matter, a call or
// a conversation, replaces an earlier one on the screen.
func (s *Service) group(out *Notification, n Note) {
	switch {
	case n.Event == EventRegister:
		out.CollapseID = EventRegister
	case n.Event != EventMessage && n.CallID != "":
		out.CollapseID = CallUUID(n.CallID)
	default:
		conversation := n.Conversation
		if conversation == "" {
			conversation = n.FromURI
		}
		out.Conversation = thread(s.cfg.Secret, n.To, conversation)
		out.CollapseID = out.Conversation
	}
	if out.Passive {
		out.Priority = 5
	}
}

// Sole is the id of the one app that there is at a provider, "" if there are
// none or several.
func (s *Service) Sole(provider string) (id string) {
	for i := range s.apps {
		if s.apps[i].Provider != provider {
			continue
		}
		if id != "" {
			return ""
		}
		id = s.apps[i].ID
	}
	return id
}

// VAPID is the key that browsers subscribe to pushes with, in base64url (RFC
// 8292 §3.2): that of the first app by WebPush, "" without one.
func (s *Service) VAPID() string {
	for _, a := range s.apps {
		if k, ok := a.Sender.(interface{ VAPID() string }); ok && a.Provider == ProviderWebPush {
			return k.VAPID()
		}
	}
	return ""
}

// AppStatus is what the status page says of an app.
type AppStatus struct {
	ID, Provider string
	OK           bool
	LastError    string // "" when OK
}

// Apps reports the apps in the order of the configuration. An app whose sender
// keeps no health is OK.
func (s *Service) Apps() []AppStatus {
	all := make([]AppStatus, len(s.apps))
	for i, a := range s.apps {
		all[i] = AppStatus{ID: a.ID, Provider: a.Provider, OK: true}
		if h, ok := a.Sender.(interface{ Health() (bool, string) }); ok {
			all[i].OK, all[i].LastError = h.Health()
		}
		if why := s.suspected(&s.apps[i]); why != "" {
			all[i].OK, all[i].LastError = false, why
		}
	}
	return all
}
