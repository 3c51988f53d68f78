// Package stanza cuts an XMPP stream into its top-level elements (RFC 6120 §4,
// §11) and looks at them as far as a proxy must: names, attributes, children.
// It keeps the bytes as they came and never writes XML anew: what has to be
// added or taken away is cut in or out.
//
// It is strict where two parsers could read the same bytes differently. It
// knows no sessions, and of meaning no more than what belongs to the stream
// itself: its header and its features.
package stanza

import (
	"errors"
	"fmt"
)

// What cannot be read on. After any of these the stream has to end; later calls
// of [Cutter.Next] return the same error again. [Condition] names the stream
// error of each.
var (
	// ErrRestricted: a comment, processing instruction or DOCTYPE (RFC 6120
	// §11.1).
	ErrRestricted = errors.New("xml that XMPP does not allow")
	// ErrSyntax: not well-formed.
	ErrSyntax = errors.New("xml not well-formed")
	// ErrPrefix: a namespace prefix that nobody declared.
	ErrPrefix = errors.New("xml namespace prefix not declared")
	// ErrNamespace: a stream of another namespace (RFC 6120 §4.8).
	ErrNamespace = errors.New("xml namespace is not that of an XMPP stream")
	// ErrTooLong: an element longer than [Limits.MaxElement].
	ErrTooLong = errors.New("xml element too long")
	// ErrTooDeep: elements nested deeper than [Limits.MaxDepth], or with more
	// attributes or declared prefixes than anybody needs.
	ErrTooDeep = errors.New("xml too complex")
)

// conditions are the stream errors of RFC 6120 §4.9.3.
var conditions = []struct {
	err  error
	name string
}{
	{ErrRestricted, "restricted-xml"},
	{ErrSyntax, "not-well-formed"},
	{ErrPrefix, "bad-namespace-prefix"},
	{ErrNamespace, "invalid-namespace"},
	{ErrTooLong, "policy-violation"},
	{ErrTooDeep, "policy-violation"},
}

// Condition names the stream error (RFC 6120 §4.9.3) for an error of this
// package, "" for any other.
func Condition(err error) string {
	for _, c := range conditions {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return ""
}

// Defaults for limits left at zero.
const (
	DefaultMaxElement = 256 << 10
	DefaultMaxDepth   = 64
)

const (
	maxAttrs    = 64 // of one element
	maxDecls    = 64 // declared prefixes in scope
	maxChildren = 64 // that are looked at; more are passed on unseen
)

// Limits bound one element. Zero means the default.
type Limits struct {
	MaxElement int // bytes
	MaxDepth   int // levels, the element itself being the first
}

func (l Limits) withDefaults() Limits {
	if l.MaxElement <= 0 {
		l.MaxElement = DefaultMaxElement
	}
	if l.MaxDepth <= 0 {
		l.MaxDepth = DefaultMaxDepth
	}
	return l
}

// Kind says what [Cutter.Next] found.
type Kind uint8

// The kinds.
const (
	// NeedMore: nothing whole is there; read and Feed.
	NeedMore Kind = iota
	// Header: the start tag of the stream; its Element has no children.
	Header
	// Whole: one whole element.
	Whole
	// End: the end tag of the stream.
	End
)

// String names the kind.
func (k Kind) String() string {
	names := [...]string{"need-more", "header", "whole", "end"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Attr is an attribute of an element's start tag. Declarations of namespaces
// are not among them.
type Attr struct {
	Prefix, Local []byte
	Value         []byte // as on the wire, escaped; see [Unescape]
}

// Element is an element of a stream, and what was seen of it. Its bytes belong
// to the Cutter and are valid until its next call.
type Element struct {
	// Raw is all from '<' to '>'; of a header the start tag alone. It may be
	// replaced by what AppendPortable made; the methods go by what came.
	Raw          []byte
	Local, Space []byte // name and namespace
	Attrs        []Attr
	Children     []Child // the first 64, in order
	Unseen       int     // how many come behind those

	of   *Cutter
	came []byte // Raw as it was cut: where children are, and declarations
}

// Child is an element directly inside another.
type Child struct {
	Local, Space []byte
	Raw          []byte

	at int // in its parent
}

// Is reports whether e has this namespace and name.
func (e *Element) Is(space, local string) bool {
	return string(e.Local) == local && string(e.Space) == space
}

// Is reports whether c has this namespace and name.
func (c *Child) Is(space, local string) bool {
	return string(c.Local) == local && string(c.Space) == space
}

// Attr returns the value of an attribute without a prefix, as on the wire; nil
// when there is none.
func (e *Element) Attr(local string) []byte {
	for i := range e.Attrs {
		if a := &e.Attrs[i]; len(a.Prefix) == 0 && string(a.Local) == local {
			return a.Value
		}
	}
	return nil
}

// Child returns the first child of this namespace and name, nil when there is
// none.
func (e *Element) Child(space, local string) *Child {
	for i := range e.Children {
		if e.Children[i].Is(space, local) {
			return &e.Children[i]
		}
	}
	return nil
}

// Inside reads a child of e as an element of its own, in the scope of e's
// namespaces. What it returns is valid as long as e is, and until Inside is
// called for another child of e.
func (e *Element) Inside(child *Child) (*Element, error) { return e.of.inside(child) }
