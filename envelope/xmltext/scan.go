package xmltext

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

// begin checks what holds for a document as a whole: size, encoding, characters (XML 1.0 sections 2.2, 4.3.3).
func (r *Reader) begin() bool {
	if len(r.doc) > r.limits.Bytes {
		return r.limit("Bytes", r.limits.Bytes)
	}
	if bytes.HasPrefix(r.doc, []byte("\xEF\xBB\xBF")) {
		r.pos = 3
	}
	if len(r.doc) >= 2 && (r.doc[0] == 0xFE && r.doc[1] == 0xFF || r.doc[0] == 0xFF && r.doc[1] == 0xFE || r.doc[0] == 0 || r.doc[1] == 0) {
		return r.syntax(EncodingNotSupported, 0, "the document is in UTF-16 or UTF-32; send it in UTF-8")
	}
	if i := badCharacter(r.doc); i >= 0 {
		return r.syntax(InvalidCharacter, i, "the byte 0x%02X at offset %d is no UTF-8, or begins a character that XML does not allow", r.doc[i], i)
	}
	return true
}

// prolog reads what may stand before the root element: an XML declaration, comments, white space. A document
// that declares itself to be in ASCII is also in UTF-8.
func (r *Reader) prolog() bool {
	if bytes.HasPrefix(r.doc[r.pos:], []byte("<?xml")) && r.pos+5 < len(r.doc) && isSpace(r.doc[r.pos+5]) {
		end := bytes.Index(r.doc[r.pos:], []byte("?>"))
		if end < 0 {
			return r.syntax(Truncated, r.pos, "the XML declaration does not end")
		}
		if !r.declaration(r.doc[r.pos+5 : r.pos+end]) {
			return false
		}
		r.pos += end + 2
	}
	return r.misc()
}

// declaration checks version and encoding (XML 1.0 section 2.8).
func (r *Reader) declaration(text []byte) bool {
	names := []string{"version", "encoding", "standalone"}
	for len(bytes.TrimLeft(text, white)) > 0 {
		trimmed := bytes.TrimLeft(text, white)
		if len(trimmed) == len(text) {
			return r.syntax(NotWellFormed, r.pos, "the XML declaration lacks white space between its parts")
		}
		name, rest, ok := bytes.Cut(trimmed, []byte("="))
		name, rest = bytes.TrimRight(name, white), bytes.TrimLeft(rest, white)
		if !ok || len(rest) < 2 || rest[0] != '"' && rest[0] != '\'' || bytes.IndexByte(rest[1:], rest[0]) < 0 {
			return r.syntax(NotWellFormed, r.pos, "the XML declaration is not of the form version=\"1.0\" encoding=\"UTF-8\"")
		}
		end := bytes.IndexByte(rest[1:], rest[0]) + 1
		value := rest[1:end]
		text = rest[end+1:]
		for len(names) > 0 && names[0] != string(name) {
			if names[0] == "version" {
				names = nil
				break
			}
			names = names[1:]
		}
		if len(names) == 0 {
			return r.syntax(NotWellFormed, r.pos, "the XML declaration has a part %q that does not belong there", Clip(string(name)))
		}
		names = names[1:]
		switch {
		case string(name) == "version" && string(value) != "1.0":
			return r.syntax(NotWellFormed, r.pos, "XML version %q is not supported; use 1.0", Clip(string(value)))
		case string(name) == "encoding" && !r.encoding(string(value)):
			return r.syntax(EncodingNotSupported, r.pos, "the document is not in the encoding %q, or that is not supported; use UTF-8", Clip(string(value)))
		case string(name) == "standalone" && string(value) != "yes" && string(value) != "no":
			return r.syntax(NotWellFormed, r.pos, "standalone is yes or no")
		}
	}
	if len(names) == 3 {
		return r.syntax(NotWellFormed, r.pos, "the XML declaration has no version")
	}
	return true
}

func (r *Reader) encoding(name string) bool {
	switch strings.ToLower(name) {
	case "utf-8":
		return true
	case "ascii", "us-ascii":
		return isASCII(r.doc)
	}
	return false
}

// misc skips white space and comments and stops at anything else.
func (r *Reader) misc() bool {
	for r.pos < len(r.doc) {
		switch {
		case isSpace(r.doc[r.pos]):
			r.pos++
		case bytes.HasPrefix(r.doc[r.pos:], []byte("<!--")):
			if !r.comment() {
				return false
			}
		default:
			return true
		}
	}
	return true
}

// comment skips a comment (production 15).
func (r *Reader) comment() bool {
	rest := r.doc[r.pos+4:]
	end := bytes.Index(rest, []byte("--"))
	if end < 0 || end+2 >= len(rest) {
		return r.syntax(Truncated, r.pos, "a comment does not end")
	}
	if rest[end+2] != '>' {
		return r.syntax(NotWellFormed, r.pos, "a comment holds --")
	}
	r.pos += 4 + end + 3
	return r.bounded()
}

// bounded says whether what was read is within the limit of markup.
func (r *Reader) bounded() bool {
	if r.pos-r.binary > r.limits.Markup {
		return r.limit("Markup", r.limits.Markup)
	}
	return true
}

// forbidden tells what begins at a '<': it is called where markup stands that must not.
func (r *Reader) forbidden() bool {
	rest := r.doc[r.pos:]
	switch {
	case bytes.HasPrefix(rest, []byte("<!DOCTYPE")):
		return r.syntax(DocumentType, r.pos, "a document type declaration is not allowed in SOAP; leave it out")
	case bytes.HasPrefix(rest, []byte("<?")):
		return r.syntax(ProcessingInstruction, r.pos, "a processing instruction is not allowed in SOAP; leave it out")
	}
	for _, markup := range [...]string{"<!--", "<![CDATA[", "<!DOCTYPE"} {
		if len(rest) < len(markup) && strings.HasPrefix(markup, string(rest)) {
			return r.syntax(Truncated, r.pos, "the document ends inside a tag")
		}
	}
	return r.syntax(NotWellFormed, r.pos, "markup that is neither an element, a comment nor CDATA")
}

// startTag reads the start tag at pos and pushes its element.
func (r *Reader) startTag() bool {
	start := r.pos
	if len(r.stack) >= r.limits.Depth {
		return r.limit("Depth", r.limits.Depth)
	}
	if r.pos++; !r.bounded() {
		return false
	}
	raw, colon := r.qname()
	if raw == nil {
		return false
	}
	e := element{raw: raw, bindings: len(r.bindings), start: start, index: 1}
	r.attrs, r.tagBindings = r.attrs[:0], len(r.bindings)
	for {
		spaced := r.skipSpace()
		if r.pos >= len(r.doc) {
			return r.syntax(Truncated, start, "the document ends inside a tag")
		}
		switch c := r.doc[r.pos]; {
		case c == '>':
			r.pos++
			return r.push(e, colon)
		case c == '/':
			if r.pos++; r.pos >= len(r.doc) {
				return r.syntax(Truncated, start, "the document ends inside a tag")
			}
			if r.doc[r.pos] != '>' {
				return r.syntax(NotWellFormed, r.pos, "a / inside a tag is not followed by >")
			}
			r.pos++
			e.empty = true
			return r.push(e, colon)
		case !spaced:
			return r.syntax(NotWellFormed, r.pos, "white space is missing before an attribute")
		}
		if !r.attribute() {
			return false
		}
	}
}

// attribute reads one attribute; its name is resolved later, when all bindings of the tag are known.
func (r *Reader) attribute() bool {
	start := r.pos
	name, colon := r.qname()
	if name == nil {
		return false
	}
	r.skipSpace()
	if r.pos < len(r.doc) && r.doc[r.pos] != '=' {
		return r.syntax(NotWellFormed, start, "the attribute %s has no value", name)
	}
	r.pos++
	r.skipSpace()
	if r.pos >= len(r.doc) {
		return r.syntax(Truncated, start, "the document ends inside a tag")
	}
	quote := r.doc[r.pos]
	if quote != '"' && quote != '\'' {
		return r.syntax(NotWellFormed, start, "the value of the attribute %s is not quoted", name)
	}
	r.pos++
	end := bytes.IndexByte(r.doc[r.pos:], quote)
	if end < 0 {
		return r.syntax(Truncated, start, "the value of the attribute %s does not end", name)
	}
	if end > r.limits.AttributeBytes {
		return r.limit("AttributeBytes", r.limits.AttributeBytes)
	}
	value, ok := r.attributeValue(r.doc[r.pos : r.pos+end])
	if !ok {
		return false
	}
	r.pos += end + 1
	prefix, local := name[:max(colon, 0)], name[colon+1:]
	switch {
	case string(name) == "xmlns":
		return r.bind(nil, value)
	case string(prefix) == "xmlns":
		return r.bind(local, value)
	}
	if len(r.attrs) >= r.limits.Attributes {
		return r.limit("Attributes", r.limits.Attributes)
	}
	r.attrs = append(r.attrs, Attr{prefix, local, value})
	return true
}

// bind declares a namespace (Namespaces in XML 1.0, section 3). Equal names of namespaces are made the same bytes,
// so that they can be compared by where they are.
func (r *Reader) bind(prefix, space []byte) bool {
	if len(r.bindings) >= r.limits.Namespaces {
		return r.limit("Namespaces", r.limits.Namespaces)
	}
	switch {
	case string(prefix) == "xmlns", string(space) == XMLNSNamespace, (string(prefix) == "xml") != (string(space) == XMLNamespace):
		return r.syntax(NotWellFormed, r.pos, "the prefixes xml and xmlns, and their namespaces, are bound already and to each other only")
	case len(prefix) > 0 && len(space) == 0:
		return r.syntax(NotWellFormed, r.pos, "the prefix %s is bound to the empty name; only the default namespace can be taken back", prefix)
	}
	for _, b := range r.bindings[r.tagBindings:] {
		if bytes.Equal(b.prefix, prefix) {
			return r.syntax(NotWellFormed, r.pos, "the prefix %q is bound twice in one tag", prefix)
		}
	}
	for _, b := range r.bindings {
		if bytes.Equal(b.space, space) {
			space = b.space
			break
		}
	}
	r.bindings = append(r.bindings, binding{prefix, space})
	return true
}

// push resolves the names of a start tag and opens its element.
func (r *Reader) push(e element, colon int) bool {
	var ok bool
	prefix := e.raw[:max(colon, 0)]
	if e.space, ok = lookup(r.bindings, prefix); !ok {
		return r.syntax(NotWellFormed, e.start, "the prefix %s is bound to no namespace", prefix)
	}
	e.local = e.raw[colon+1:]
	for i := range r.attrs {
		if a := &r.attrs[i]; len(a.Space) > 0 {
			prefix := a.Space
			if a.Space, ok = lookup(r.bindings, prefix); !ok {
				return r.syntax(NotWellFormed, e.start, "the prefix %s is bound to no namespace", prefix)
			}
		}
	}
	if a := r.duplicate(); a != nil {
		return r.syntax(NotWellFormed, e.start, "the attribute %s stands twice in one tag", a.Local)
	}
	if n := len(r.stack); n > 0 {
		parent := &r.stack[n-1]
		if parent.children++; parent.children > r.limits.Children {
			return r.limit("Children", r.limits.Children)
		}
		if bytes.Equal(parent.last, e.local) {
			e.index = parent.lastIndex + 1
		}
		parent.last, parent.lastIndex = e.local, e.index
	}
	r.stack, r.simpleAt = append(r.stack, e), 0
	return true
}

// duplicate gives an attribute of the tag that has the expanded name of another (Namespaces in XML 1.0, section
// 6.3). A few are compared with each other; many are looked up by a hash that nobody outside can foresee.
func (r *Reader) duplicate() *Attr {
	few := len(r.attrs) <= 8
	if !few {
		size := 2 << bits.Len(uint(len(r.attrs)))
		r.table = slices.Grow(r.table[:0], size)[:size]
		clear(r.table)
	}
	for i := range r.attrs {
		a := &r.attrs[i]
		if few {
			for j := range r.attrs[:i] {
				if a.same(&r.attrs[j]) {
					return a
				}
			}
			continue
		}
		at := int(maphash.Bytes(seed, a.Local) & uint64(len(r.table)-1))
		for r.table[at] != 0 {
			if a.same(&r.attrs[r.table[at]-1]) {
				return a
			}
			at = (at + 1) & (len(r.table) - 1)
		}
		r.table[at] = int32(i + 1)
	}
	return nil
}

var seed = maphash.MakeSeed()

// same says whether two attributes have one expanded name. Equal namespaces are the same bytes; see bind.
func (a *Attr) same(b *Attr) bool {
	return bytes.Equal(a.Local, b.Local) && len(a.Space) == len(b.Space) && (len(a.Space) == 0 || &a.Space[0] == &b.Space[0])
}

// endTag reads the end tag at pos, which must be that of the innermost open element.
func (r *Reader) endTag() bool {
	start := r.pos
	open := &r.stack[len(r.stack)-1]
	r.pos += 2
	fits := bytes.HasPrefix(r.doc[r.pos:], open.raw)
	if fits {
		r.pos += len(open.raw)
		r.skipSpace()
	}
	switch {
	case r.pos >= len(r.doc), bytes.HasPrefix(open.raw, r.doc[r.pos:]):
		return r.syntax(Truncated, start, "the document ends inside a tag")
	case !fits || r.doc[r.pos] != '>':
		return r.syntax(NotWellFormed, start, "an end tag does not match <%s>", open.raw)
	}
	r.pos++
	return true
}

// qname reads a qualified name and says where its colon is, -1 for nowhere (Namespaces in XML 1.0, production 7);
// nil is an error.
func (r *Reader) qname() (name []byte, colon int) {
	start, first := r.pos, true
	colon = -1
	for r.pos < len(r.doc) && r.pos-start <= r.limits.NameBytes {
		c := r.doc[r.pos]
		if c >= utf8.RuneSelf {
			v, n := utf8.DecodeRune(r.doc[r.pos:])
			if !isNameRune(v, first) {
				break
			}
			r.pos += n
			first = false
			continue
		}
		if c == ':' && !first && colon < 0 {
			colon, first = r.pos-start, true
			r.pos++
			continue
		}
		if class := nameClass[c]; class == 0 || first && class&nameStart == 0 {
			break
		}
		r.pos++
		first = false
	}
	switch {
	case first && r.pos >= len(r.doc):
		r.syntax(Truncated, start, "the document ends inside a tag")
		return nil, -1
	case first:
		r.syntax(NotWellFormed, start, "a name is expected: letters, digits, and . - _ after the first, with one colon at most")
		return nil, -1
	case r.pos-start > r.limits.NameBytes:
		r.limit("NameBytes", r.limits.NameBytes)
		return nil, -1
	}
	return r.doc[start:r.pos], colon
}

func (r *Reader) skipSpace() bool {
	start := r.pos
	for r.pos < len(r.doc) && isSpace(r.doc[r.pos]) {
		r.pos++
	}
	return r.pos > start
}
