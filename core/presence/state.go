package presence

import (
	"bytes"
	"encoding/xml"
	"mime"
	"strings"
)

// Partial says whether the body of a NOTIFY tells a part of the state only, so
// that it counts beside what was told before, and not instead of it: a diff of
// RFC 5262, a list with fullState="false" (RFC 4662 §5.2), or a document with
// state="partial" (RFC 3858 §4.1, RFC 4235 §4.1, RFC 3680 §5.1, RFC 4575 §4.4). A
// body that cannot be read is not partial.
func Partial(contentType string, body []byte) bool {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	if kind == "multipart/related" { // its root comes first, unless it says otherwise (RFC 2387 §3.2)
		part, ok := rootPart(body, params["boundary"])
		return ok && partial(part)
	}
	return (strings.HasSuffix(kind, "+xml") || kind == "application/xml") && partial(body)
}

// rootPart is the body of the first part of a multipart (RFC 2046 §5.1).
func rootPart(body []byte, boundary string) ([]byte, bool) {
	if boundary == "" {
		return nil, false
	}
	mark := []byte("--" + boundary)
	_, rest, ok := bytes.Cut(body, mark)
	if !ok {
		return nil, false
	}
	part, _, _ := bytes.Cut(rest, mark)
	_, part, ok = bytes.Cut(part, []byte("\r\n\r\n"))
	return part, ok
}

func partial(doc []byte) bool {
	d := xml.NewDecoder(bytes.NewReader(doc))
	for {
		t, err := d.Token()
		if err != nil {
			return false
		}
		root, is := t.(xml.StartElement)
		if !is {
			continue
		}
		if root.Name.Local == "pidf-diff" || root.Name.Local == "xcap-diff" {
			return true
		}
		for _, a := range root.Attr {
			v := strings.TrimSpace(a.Value)
			if a.Name.Local == "state" && v == "partial" || a.Name.Local == "fullState" && (v == "false" || v == "0") {
				return true
			}
		}
		return false
	}
}
