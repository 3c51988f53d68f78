package location

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"sallyport/core/inorder"
)

// writeShards is how many devices can be on their way to the store at once.
const writeShards = 64

// Location holds bindings and devices. All methods are safe for concurrent
// use; none but Bind and Save waits for the store.
type Location struct {
	// Static after New.
	cfg   Config
	store Store
	log   *slog.Logger

	// changed tells Run that the first of due changed, unsaved that there is
	// something dirty; each holds one token.
	changed, unsaved chan struct{}

	// writes serialise the store's calls per key: whoever has put a token into
	// the key's channel may call. Taken before mu.
	writes [writeShards]chan struct{}

	mu sync.RWMutex
	// Guarded by mu.
	devices map[DeviceID]*device
	aors    map[string][]*device // by AOR
	tokens  map[string]*binding  // by Binding.Token
	flows   map[string][]*binding
	pushes  map[pushKey]*device
	live    int // bindings with a live flow
	due     inorder.Heap[*device]
	dirty   map[DeviceID]struct{} // to be stored by Run
	words   words
}

// device is the one mutable record behind the snapshots. Guarded by
// Location.mu.
type device struct {
	id       DeviceID
	tokens   []Token
	class    string
	bindings []*binding // newest registration first
	keep     time.Time
	lastWake time.Time

	due   time.Time // next moment at which something of it ends
	index int       // in Location.due
}

// binding is a Binding with its flow's id kept even when the flow is lost:
// a flow that an edge opens again is known by it. Guarded by Location.mu.
type binding struct {
	Binding
	dev  *device
	live bool // Flow is up
}

// pushKey is what makes a push token unique. scope is "" for SIP, and else the
// AOR: an app that speaks both has one token for both, and an IM client has one
// for all its accounts.
type pushKey struct{ scope, app, kind, value string }

// key names a token of the device.
func (id DeviceID) tokenKey(t *Token) pushKey {
	scope := ""
	if id.enrols() {
		scope = id.AOR
	}
	return pushKey{scope, t.App, t.Kind, t.Value}
}

// New returns an empty Location that writes through to store. A nil log
// discards.
func New(cfg Config, store Store, log *slog.Logger) *Location {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Location{
		cfg:     cfg.withDefaults(),
		store:   store,
		log:     log.With("room", "location"),
		changed: make(chan struct{}, 1),
		unsaved: make(chan struct{}, 1),
		devices: make(map[DeviceID]*device),
		aors:    make(map[string][]*device),
		tokens:  make(map[string]*binding),
		flows:   make(map[string][]*binding),
		pushes:  make(map[pushKey]*device),
		dirty:   make(map[DeviceID]struct{}),
		words:   make(words),
	}
	for i := range l.writes {
		l.writes[i] = make(chan struct{}, 1)
	}
	return l
}

// Unbind removes one binding, because the client said so (Expires 0). With its
// last one that has not expired, the device and its tokens go too (B29). The
// store hears of it from Run within a second, or at once from [Location.Save].
func (l *Location) Unbind(id DeviceID, regID int) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.devices[id]
	if d == nil {
		return
	}
	l.dropBindings(d, func(b *binding) bool { return b.RegID == regID })
	if slices.ContainsFunc(d.bindings, func(b *binding) bool { return !b.Expired(now) }) {
		l.settle(d, now)
	} else {
		l.drop(d)
	}
	l.markDirty(id)
}

// Remove forgets a device with its bindings and tokens at once, because the
// client said so (Contact: *). The store hears of it as of [Location.Unbind].
func (l *Location) Remove(id DeviceID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.devices[id]; d != nil {
		l.drop(d)
		l.markDirty(id)
	}
}

// Unflow takes a flow that ended at the time at from its bindings, and returns
// their devices. The bindings stay, flow-less, and know the flow again if an
// edge opens it again ([Location.Reattach]).
func (l *Location) Unflow(flow string, at time.Time) []DeviceID {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []DeviceID
	for _, b := range l.flows[flow] {
		if !b.live {
			continue
		}
		l.setLive(b, false)
		b.FlowLost, b.Answering = at, false
		if !slices.Contains(ids, b.dev.id) {
			ids = append(ids, b.dev.id)
		}
	}
	return ids
}

// Reattach makes the bindings whose last flow had this id live again and
// returns them: an edge opened the flow anew after its tunnel, or this core,
// was gone. None means that the flow is a stranger's.
func (l *Location) Reattach(flow string) []Binding {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []Binding
	for _, b := range l.flows[flow] {
		if b.Expired(now) {
			continue
		}
		l.setLive(b, true)
		b.FlowLost, b.Answering = time.Time{}, false // whoever waited for an answer there waits no longer
		found = append(found, b.snapshot())
	}
	return found
}

// Woken notes that a push brought the device back at the time at.
func (l *Location) Woken(id DeviceID, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.devices[id]; d != nil {
		d.lastWake = at
		l.markDirty(id)
	}
}

// Lookup returns the devices of an AOR, the newest registration first.
func (l *Location) Lookup(aor string) []Device {
	l.mu.RLock()
	defer l.mu.RUnlock()
	ds := l.aors[aor]
	found := make([]Device, 0, len(ds))
	for _, d := range ds {
		found = append(found, d.snapshot())
	}
	slices.SortStableFunc(found, func(a, b Device) int { return b.Keep.Compare(a.Keep) })
	return found
}

// Device returns one device.
func (l *Location) Device(id DeviceID) (Device, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	d := l.devices[id]
	if d == nil {
		return Device{}, false
	}
	return d.snapshot(), true
}

// ByToken returns the device and the binding that our contact's user part
// names, in the time of one map look-up, also after the binding expired (B29).
func (l *Location) ByToken(token string) (Device, Binding, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	b := l.tokens[token]
	if b == nil {
		return Device{}, Binding{}, false
	}
	return b.dev.snapshot(), b.snapshot(), true
}

// Owner is ByToken for the device's name alone.
func (l *Location) Owner(token string) (DeviceID, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if b := l.tokens[token]; b != nil {
		return b.dev.id, true
	}
	return DeviceID{}, false
}

// BindingOn returns the device's newest binding whose flow is that one, live
// and in use.
func (l *Location) BindingOn(id DeviceID, flow string) (Binding, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if d := l.devices[id]; d != nil {
		for _, b := range d.bindings {
			if b.live && !b.Answering && b.Flow == flow {
				return b.snapshot(), true
			}
		}
	}
	return Binding{}, false
}

// ByFlow returns the bindings on a live flow, those whose client is being
// answered among them: they say what the client may do.
func (l *Location) ByFlow(flow string) []Binding {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var found []Binding
	for _, b := range l.flows[flow] {
		if b.live {
			found = append(found, b.snapshot())
		}
	}
	return found
}

// All yields every device in the order of AORs and instances, each as it is
// when its turn comes. No lock is held while yield runs.
func (l *Location) All(yield func(Device) bool) {
	l.mu.RLock()
	ids := make([]DeviceID, 0, len(l.devices))
	for id := range l.devices {
		ids = append(ids, id)
	}
	l.mu.RUnlock()
	slices.SortFunc(ids, DeviceID.compare)
	for _, id := range ids {
		if d, ok := l.Device(id); ok && !yield(d) {
			return
		}
	}
}

// Count returns how many devices are known, and how many bindings have a live
// flow.
func (l *Location) Count() (devices, live int) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.devices), l.live
}
