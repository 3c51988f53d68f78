package stanza

import "bytes"

// tag reads up to the end of a tag, and then the tag.
func (c *Cutter) tag(b []byte) (bool, error) {
	for i := c.scan; i < len(b); i++ {
		if c.quote != 0 {
			n := bytes.IndexByte(b[i:], c.quote)
			end := i + n
			if n < 0 {
				end = len(b)
			}
			if bytes.IndexByte(b[i:end], '<') >= 0 {
				return false, ErrSyntax
			}
			if n < 0 {
				break
			}
			i, c.quote = end, 0
			continue
		}
		x := b[i]
		if bytesOf[x]&tagByte == 0 {
			continue
		}
		switch x {
		case '<':
			return false, ErrSyntax
		case '"', '\'':
			c.quote = x
		case '>':
			lo := c.pos
			c.pos, c.in = i+1, inText
			if b[lo+1] == '/' {
				return true, c.endTag(b, lo+2, i)
			}
			return true, c.startTag(b, lo+1, i)
		}
	}
	c.scan = len(b)
	return false, nil
}

// endTag reads the end tag whose name begins at lo; '>' is at hi.
func (c *Cutter) endTag(b []byte, lo, hi int) error {
	for hi > lo && isBlank(b[hi-1]) {
		hi--
	}
	depth := len(c.stack)
	if depth == 0 {
		if !c.open || !bytes.Equal(b[lo:hi], c.name) {
			return ErrSyntax
		}
		c.seen.kind, c.seen.closed = End, true
		return nil
	}
	if name := c.stack[depth-1]; !bytes.Equal(b[lo:hi], b[name.lo:name.hi]) {
		return ErrSyntax
	}
	c.stack = c.stack[:depth-1]
	c.leave(depth - 1)
	return nil
}

// leave ends the element at a depth, 0 being the outermost.
func (c *Cutter) leave(depth int) {
	switch depth {
	case 0: // its namespaces stay, for Inside
		c.seen.kind, c.seen.closed = Whole, true
		return
	case 1:
		if n := len(c.seen.children); n > 0 && c.seen.children[n-1].raw.hi == 0 {
			c.seen.children[n-1].raw.hi = c.pos
		}
	}
	n := len(c.scope)
	for n > 0 && c.scope[n-1].depth >= depth {
		n--
	}
	c.scope = c.scope[:n]
}

// startTag reads the start tag whose name begins at lo; '>' is at hi.
func (c *Cutter) startTag(b []byte, lo, hi int) error {
	depth := len(c.stack)
	start := lo - 1
	empty := b[hi-1] == '/'
	if empty {
		hi--
	}
	end, colon := readName(b[:hi], lo)
	if end < 0 {
		return ErrSyntax
	}
	name := span{lo, end}
	if err := c.attributes(b[:hi], end, depth); err != nil {
		return err
	}
	prefix, local := split(name, colon)
	space, ok := c.resolve(b, prefix)
	if !ok {
		return ErrPrefix
	}
	for i := range c.attrs {
		if p := c.attrs[i].prefix; p.lo < p.hi {
			if _, ok := c.resolve(b, p); !ok {
				return ErrPrefix
			}
		}
	}
	switch {
	case !c.open:
		if empty {
			return ErrSyntax
		}
		c.begin(b, name, local, space)
		return nil
	case depth == 0:
		c.seen.local, c.seen.space = local, space
		c.seen.attrs = append(c.seen.attrs[:0], c.attrs...)
	case depth == 1 && len(c.seen.children) < maxChildren:
		c.seen.children = append(c.seen.children, child{local: local, space: space, raw: span{lo: start}})
	case depth == 1:
		c.seen.unseen++
	}
	if empty {
		c.leave(depth)
		return nil
	}
	if depth >= c.limits.MaxDepth {
		return ErrTooDeep
	}
	c.stack = append(c.stack, name)
	return nil
}

// begin takes the stream's header, whose declarations hold for all that comes.
func (c *Cutter) begin(b []byte, name, local span, space uri) {
	c.open = true
	c.name = bytes.Clone(b[name.lo:name.hi])
	for _, d := range c.scope {
		c.base = append(c.base, ns{bytes.Clone(b[d.prefix.lo:d.prefix.hi]), bytes.Clone(b[d.uri.lo:d.uri.hi])})
	}
	c.seen.local, c.seen.space = local, space
	c.seen.attrs = append(c.seen.attrs[:0], c.attrs...)
	c.seen.kind, c.seen.closed = Header, true
}

// attributes reads those of a tag, from the byte behind its name, into c.attrs
// and c.scope.
func (c *Cutter) attributes(b []byte, i, depth int) error {
	c.attrs = c.attrs[:0]
	for {
		n := blanks(b[i:])
		if i += n; i == len(b) {
			return nil
		}
		if n == 0 {
			return ErrSyntax
		}
		end, colon := readName(b, i)
		if end < 0 {
			return ErrSyntax
		}
		name := span{i, end}
		i = end + blanks(b[end:])
		if i == len(b) || b[i] != '=' {
			return ErrSyntax
		}
		i++
		i += blanks(b[i:])
		if i == len(b) || b[i] != '"' && b[i] != '\'' {
			return ErrSyntax
		}
		n = bytes.IndexByte(b[i+1:], b[i])
		if n < 0 {
			return ErrSyntax
		}
		value := span{i + 1, i + 1 + n}
		i = value.hi + 1
		if err := c.attribute(b, name, colon, value, depth); err != nil {
			return err
		}
	}
}

// attribute takes one attribute or declaration.
func (c *Cutter) attribute(b []byte, name span, colon int, value span, depth int) error {
	if err := checkValue(b[value.lo:value.hi]); err != nil {
		return err
	}
	prefix, local := split(name, colon)
	switch {
	case colon < 0 && string(b[local.lo:local.hi]) == "xmlns":
		return c.declare(b, span{name.lo, name.lo}, value, depth)
	case string(b[prefix.lo:prefix.hi]) == "xmlns":
		return c.declare(b, local, value, depth)
	case len(c.attrs) >= maxAttrs:
		return ErrTooDeep
	}
	for i := range c.attrs {
		a := &c.attrs[i]
		if bytes.Equal(b[a.local.lo:a.local.hi], b[local.lo:local.hi]) && bytes.Equal(b[a.prefix.lo:a.prefix.hi], b[prefix.lo:prefix.hi]) {
			return ErrSyntax
		}
	}
	c.attrs = append(c.attrs, tagAt{prefix: prefix, local: local, value: value})
	return nil
}

// declare takes a declaration. A namespace that needs to be unescaped or
// trimmed before it can be compared is refused: nobody has one, and what two
// readers see differently is how a check is passed by.
func (c *Cutter) declare(b []byte, prefix, value span, depth int) error {
	p, v := b[prefix.lo:prefix.hi], b[value.lo:value.hi]
	switch {
	case !isURI(v),
		len(p) > 0 && len(v) == 0,
		string(p) == "xml", string(p) == "xmlns":
		return ErrSyntax
	case len(c.scope) >= maxDecls:
		return ErrTooDeep
	}
	for i := len(c.scope) - 1; i >= 0 && c.scope[i].depth == depth; i-- {
		if o := c.scope[i].prefix; bytes.Equal(b[o.lo:o.hi], p) {
			return ErrSyntax
		}
	}
	c.scope = append(c.scope, decl{prefix: prefix, uri: value, depth: depth})
	return nil
}

// isURI reports whether a namespace says the same as it stands.
func isURI(b []byte) bool {
	for _, x := range b {
		if bytesOf[x]&spoilByte != 0 {
			return false
		}
	}
	return true
}

var xmlSpace = []byte("http://www.w3.org/XML/1998/namespace")

// resolve finds the namespace of a prefix; the empty one is the default.
func (c *Cutter) resolve(b []byte, prefix span) (uri, bool) {
	p := b[prefix.lo:prefix.hi]
	for i := len(c.scope) - 1; i >= 0; i-- {
		if d := c.scope[i]; bytes.Equal(b[d.prefix.lo:d.prefix.hi], p) {
			return uri{at: d.uri}, true
		}
	}
	for i := len(c.base) - 1; i >= 0; i-- {
		if d := c.base[i]; bytes.Equal(d.prefix, p) {
			c.seen.used.add(i)
			return uri{known: d.uri}, true
		}
	}
	if string(p) == "xml" {
		return uri{known: xmlSpace}, true
	}
	return uri{}, len(p) == 0
}

// split cuts a name at its colon, -1 for none.
func split(name span, colon int) (prefix, local span) {
	if colon < 0 {
		return span{name.lo, name.lo}, name
	}
	return span{name.lo, colon}, span{colon + 1, name.hi}
}

// finish shows what was read. b begins with it.
func (c *Cutter) finish(b []byte) Kind {
	e, s := &c.out, &c.seen
	e.of, e.came, e.Unseen = c, b[:c.pos:c.pos], s.unseen
	e.Raw = e.came
	e.Local, e.Space = s.local.of(b), s.space.of(b)
	e.Attrs, e.Children = e.Attrs[:0], e.Children[:0]
	for _, a := range s.attrs {
		e.Attrs = append(e.Attrs, Attr{Prefix: a.prefix.of(b), Local: a.local.of(b), Value: a.value.of(b)})
	}
	for _, ch := range s.children {
		e.Children = append(e.Children, Child{Local: ch.local.of(b), Space: ch.space.of(b), Raw: ch.raw.of(b), at: ch.raw.lo})
	}
	return s.kind
}

func (s span) of(b []byte) []byte { return b[s.lo:s.hi:s.hi] }

func (u uri) of(b []byte) []byte {
	if u.known != nil {
		return u.known
	}
	return u.at.of(b)
}

// inside reads a child of the element that was returned last.
func (c *Cutter) inside(child *Child) (*Element, error) {
	if c.inner == nil {
		c.inner = &Cutter{framed: true, open: true, work: new(work)}
	}
	in := c.inner
	if in.work == nil {
		in.work = new(work)
	}
	in.limits, in.err, in.base = c.limits, nil, append(in.base[:0], c.base...)
	in.buf, in.from, in.lent, in.space = nil, 0, false, 0
	in.reset()
	for _, d := range c.scope {
		in.base = append(in.base, ns{d.prefix.of(c.out.came), d.uri.of(c.out.came)})
	}
	in.Feed(child.Raw)
	_, e, err := in.Next()
	return e, err
}
