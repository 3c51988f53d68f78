package frame

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Role is which end of a tunnel a node is.
type Role byte

// The two ends.
const (
	RoleEdge Role = 1
	RoleCore Role = 2
)

// String returns "edge" or "core".
func (r Role) String() string {
	switch r {
	case RoleEdge:
		return "edge"
	case RoleCore:
		return "core"
	}
	return fmt.Sprintf("role-%d", byte(r))
}

// Feature bits. A frame that needs one is sent only when both HELLOs set it.
const (
	FeatureResume uint64 = 1 << 0 // several links; a new carrier goes on where the old one broke
	FeatureParts  uint64 = 1 << 1 // messages may come in pieces
	FeatureDgram  uint64 = 1 << 2 // best effort datagrams
	FeatureNarrow uint64 = 1 << 3 // flows with a quarter of the window
)

// Bounds of what a HELLO may claim, and limits of its strings in bytes.
const (
	MinWindow   = 1 << 10
	MaxWindow   = 16 << 20
	minMaxFrame = MaxOpen

	maxNode     = 255
	maxService  = 32
	maxServices = 16
	maxBuild    = 64
)

// Hello is what each end says first on a link.
type Hello struct {
	MinMinor, MaxMinor uint16 // minor versions spoken; the highest common one is used
	Features           uint64 // Feature bits
	Role               Role
	Node               string // must be the name the certificate gives
	Boot               uint64 // random for each start of the process

	Link, Links uint8  // index of this link in its session, and how many there will be
	Session     uint64 // chosen by the core, the same on all links of a session
	RxOffset    uint64 // sequenced bytes of this session and link handled so far

	Window   uint32 // bytes a flow may be sent before CREDIT, MinWindow to MaxWindow
	MaxFrame uint32 // longest payload taken
	MaxFlows uint32 // flows taken; 0 from an edge, which takes none

	Services []string // what may be opened here; none means any
	Weight   uint16   // share of new flows among several cores, at least 1
	Draining bool     // no new flows, please
	Build    string   // for people
	Resume   bool     // Session goes on, or gets one more link; the receiver must know it
}

const (
	tagMinor    = 1
	tagFeatures = 2
	tagRole     = 3
	tagNode     = 4
	tagBoot     = 5
	tagLink     = 6
	tagSession  = 7
	tagRxOffset = 8
	tagWindow   = 9
	tagMaxFrame = 10
	tagMaxFlows = 11
	tagService  = 12
	tagWeight   = 13
	tagDraining = 14
	tagBuild    = 15
	tagResume   = 16
)

// AppendHello appends the frame of h. It fails when h breaks the limits a
// receiver would hold against it.
func AppendHello(b []byte, h Hello) ([]byte, error) {
	if err := h.check(); err != nil {
		return b, err
	}
	p := make([]byte, 0, 256)
	p = appendUint(p, tagMinor, 4, uint64(h.MinMinor)<<16|uint64(h.MaxMinor))
	p = appendUint(p, tagFeatures, 8, h.Features)
	p = appendUint(p, tagRole, 1, uint64(h.Role))
	p = appendString(p, tagNode, h.Node)
	p = appendUint(p, tagBoot, 8, h.Boot)
	p = appendUint(p, tagLink, 2, uint64(h.Link)<<8|uint64(h.Links))
	p = appendUint(p, tagSession, 8, h.Session)
	p = appendUint(p, tagRxOffset, 8, h.RxOffset)
	p = appendUint(p, tagWindow, 4, uint64(h.Window))
	p = appendUint(p, tagMaxFrame, 4, uint64(h.MaxFrame))
	p = appendUint(p, tagMaxFlows, 4, uint64(h.MaxFlows))
	for _, s := range h.Services {
		p = appendString(p, tagService, s)
	}
	p = appendUint(p, tagWeight, 2, uint64(h.Weight))
	if h.Draining {
		p = appendUint(p, tagDraining, 1, 1)
	}
	p = appendString(p, tagBuild, h.Build)
	if h.Resume {
		p = appendUint(p, tagResume, 1, 1)
	}
	return Append(b, TypeHello, 0, p), nil
}

// ParseHello reads the payload of a HELLO. What it returns satisfies every
// limit above; whether the name is the peer's is for the caller to know.
func ParseHello(p []byte) (Hello, error) {
	h := Hello{Links: 1, Weight: 1}
	if len(p) > MaxHello {
		return h, fmt.Errorf("%w: HELLO of %d bytes, at most %d", ErrSyntax, len(p), MaxHello)
	}
	f := fields{rest: p}
	for {
		tag, value, ok, err := f.next()
		if err != nil {
			return h, fmt.Errorf("HELLO: %w", err)
		}
		if !ok {
			break
		}
		if tag != tagService {
			err = f.once(tag)
		}
		if err == nil {
			err = h.set(tag, value)
		}
		if err != nil {
			return h, fmt.Errorf("HELLO: %w", err)
		}
	}
	return h, h.check()
}

// set takes one field.
func (h *Hello) set(tag byte, value []byte) error {
	if err := h.setText(tag, value); err != nil || isText(tag) {
		return err
	}
	name, size := helloNumber(tag)
	if size == 0 {
		return nil // from a later version
	}
	v, err := parseUint(name, value, size)
	if err != nil {
		return err
	}
	switch tag {
	case tagMinor:
		h.MinMinor, h.MaxMinor = uint16(v>>16), uint16(v&math.MaxUint16)
	case tagFeatures:
		h.Features = v
	case tagRole:
		h.Role = Role(v)
	case tagBoot:
		h.Boot = v
	case tagLink:
		h.Link, h.Links = uint8(v>>8), uint8(v&math.MaxUint8)
	case tagSession:
		h.Session = v
	case tagRxOffset:
		h.RxOffset = v
	case tagWindow:
		h.Window = uint32(v)
	case tagMaxFrame:
		h.MaxFrame = uint32(v)
	case tagMaxFlows:
		h.MaxFlows = uint32(v)
	case tagWeight:
		h.Weight = uint16(v)
	case tagDraining:
		h.Draining = v != 0
	case tagResume:
		h.Resume = v != 0
	}
	return nil
}

func isText(tag byte) bool { return tag == tagNode || tag == tagService || tag == tagBuild }

func (h *Hello) setText(tag byte, value []byte) error {
	switch tag {
	case tagNode:
		h.Node = string(value)
	case tagService:
		if len(h.Services) == maxServices {
			return fmt.Errorf("%w: more than %d services", ErrSyntax, maxServices)
		}
		h.Services = append(h.Services, string(value))
	case tagBuild:
		h.Build = string(value)
	}
	return nil
}

// helloNumber returns the name and size in bytes of a numeric field, size 0
// for one this version does not know.
func helloNumber(tag byte) (string, int) {
	switch tag {
	case tagMinor:
		return "minor versions", 4
	case tagFeatures:
		return "features", 8
	case tagRole:
		return "role", 1
	case tagBoot:
		return "boot id", 8
	case tagLink:
		return "link", 2
	case tagSession:
		return "session id", 8
	case tagRxOffset:
		return "receive offset", 8
	case tagWindow:
		return "window", 4
	case tagMaxFrame:
		return "largest frame", 4
	case tagMaxFlows:
		return "flow limit", 4
	case tagWeight:
		return "weight", 2
	case tagDraining:
		return "draining", 1
	case tagResume:
		return "resume", 1
	}
	return "", 0
}

func (h *Hello) check() error {
	errs := []error{
		checkText("node name", h.Node, maxNode),
		checkText("build", h.Build, maxBuild),
	}
	for _, s := range h.Services {
		errs = append(errs, checkText("service", s, maxService))
	}
	bad := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrSyntax}, args...)...))
		}
	}
	bad(slices.Contains(h.Services, ""), "a service without name")
	bad(len(h.Services) > maxServices, "more than %d services", maxServices)
	bad(h.MinMinor > h.MaxMinor, "minor versions %d to %d", h.MinMinor, h.MaxMinor)
	bad(h.Role != RoleEdge && h.Role != RoleCore, "no such role: %d", h.Role)
	bad(h.Node == "", "no node name")
	bad(h.Links == 0 || h.Link >= h.Links, "link %d of %d", h.Link, h.Links)
	bad(h.Window < MinWindow || h.Window > MaxWindow, "window of %d bytes, want %d to %d", h.Window, MinWindow, MaxWindow)
	bad(h.MaxFrame < minMaxFrame, "largest frame of %d bytes, want at least %d", h.MaxFrame, minMaxFrame)
	bad(h.Weight == 0, "weight 0")
	bad(h.Resume && h.Features&FeatureResume == 0, "resume without the feature")
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("HELLO: %w", err)
	}
	return nil
}
