package sipmsg

import (
	"errors"
	"slices"
	"strings"
)

// maxParams bounds the parameters of one value.
const maxParams = 64

var errParam = errors.New("malformed parameter")

// Param is one parameter of a URI or of a header value.
type Param struct {
	// Name is as it was written; compare it without regard to case.
	Name string
	// Value is as it was written, quotes included.
	Value string
	// Flag is set for a parameter without "=", such as lr.
	Flag bool
}

// Params are parameters in the order they were written. Names are looked up
// without regard to case.
type Params []Param

// Get returns the value of the first parameter called name, unquoted, and
// whether there is one.
func (p Params) Get(name string) (string, bool) {
	for i := range p {
		if strings.EqualFold(p[i].Name, name) {
			return unquote(p[i].Value), true
		}
	}
	return "", false
}

// Has reports whether there is a parameter called name.
func (p Params) Has(name string) bool {
	_, ok := p.Get(name)
	return ok
}

// Set returns p with name set to value, which must be a token or quoted;
// other parameters of the name are gone. p itself is not changed.
func (p Params) Set(name, value string) Params {
	return append(p.Without(name), Param{Name: name, Value: value, Flag: value == ""})
}

// Without returns p without the parameters called by any of names. p itself
// is not changed.
func (p Params) Without(names ...string) Params {
	return p.filter(func(name string) bool {
		return !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
	})
}

func (p Params) filter(keep func(name string) bool) Params {
	out := make(Params, 0, len(p))
	for _, q := range p {
		if keep(q.Name) {
			out = append(out, q)
		}
	}
	return out
}

// String writes each parameter with a leading semicolon.
func (p Params) String() string {
	var b strings.Builder
	p.write(&b)
	return b.String()
}

func (p Params) write(b *strings.Builder) {
	for _, q := range p {
		b.WriteByte(';')
		b.WriteString(q.Name)
		if !q.Flag {
			b.WriteByte('=')
			b.WriteString(q.Value)
		}
	}
}

// parseParams reads ";a=b;c" with the leading semicolon. White space around
// the separators is dropped, quoted values are kept whole, and empty
// parameters (";;") are an error.
func parseParams(s string) (Params, error) {
	if s = trim(s); s == "" {
		return nil, nil
	}
	out := make(Params, 0, min(strings.Count(s, ";"), maxParams))
	for s != "" {
		if s[0] != ';' {
			return nil, errParam
		}
		end, err := scan(s[1:], ";", false)
		if err != nil {
			return nil, err
		}
		q, err := parseParam(s[1 : 1+end])
		if err != nil {
			return nil, err
		}
		if out = append(out, q); len(out) > maxParams {
			return nil, errors.New("too many parameters")
		}
		s = s[1+end:]
	}
	return out, nil
}

func parseParam(s string) (Param, error) {
	name, value, eq := strings.Cut(s, "=")
	name, value = trim(name), trim(value)
	if !all(name, paramName) || !isParamValue(value) {
		return Param{}, errParam
	}
	return Param{Name: name, Value: value, Flag: !eq}, nil
}

// isParamValue accepts one quoted-string, or text without quotes, white
// space, commas and angle brackets.
func isParamValue(s string) bool {
	if s == "" || s[0] != '"' {
		return !strings.ContainsAny(s, "\" \t,<>;\x00")
	}
	end := 1
	for end < len(s) && s[end] != '"' {
		if s[end] == '\\' {
			end++
		}
		end++
	}
	return end == len(s)-1
}
