package xmltext

import (
	"bytes"
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
		return r.syntax(EncodingNotSupported, 0, "the document is not in UTF-8")
	}
	if i := badCharacter(r.doc); i >= 0 {
		return r.syntax(InvalidCharacter, i, "a byte that is no UTF-8, or a character that XML does not allow")
	}
	return true
}

// badCharacter gives the offset of the first character that is not in XML's Char (production 2), or -1.
func badCharacter(doc []byte) int {
	for i := 0; i < len(doc); {
		c := doc[i]
		if c < utf8.RuneSelf {
			if c < 0x20 && c != '\t' && c != '\n' && c != '\r' {
				return i
			}
			i++
			continue
		}
		v, n := utf8.DecodeRune(doc[i:])
		if v == utf8.RuneError && n <= 1 || v == 0xFFFE || v == 0xFFFF {
			return i
		}
		i += n
	}
	return -1
}

// prolog reads what may stand before the root element: an XML declaration, comments, white space.
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
	for len(bytes.TrimLeft(text, " \t\r\n")) > 0 {
		trimmed := bytes.TrimLeft(text, " \t\r\n")
		if len(trimmed) == len(text) {
			return r.syntax(NotWellFormed, r.pos, "the XML declaration lacks white space between its parts")
		}
		name, rest, ok := bytes.Cut(trimmed, []byte("="))
		name, rest = bytes.TrimRight(name, " \t\r\n"), bytes.TrimLeft(rest, " \t\r\n")
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
			return r.syntax(NotWellFormed, r.pos, "the XML declaration has a part %q that does not belong there", name)
		}
		names = names[1:]
		switch {
		case string(name) == "version" && string(value) != "1.0":
			return r.syntax(NotWellFormed, r.pos, "XML version %q is not supported; use 1.0", value)
		case string(name) == "encoding" && !bytes.EqualFold(value, []byte("utf-8")) && !bytes.EqualFold(value, []byte("us-ascii")):
			return r.syntax(EncodingNotSupported, r.pos, "encoding %q is not supported; use UTF-8", value)
		case string(name) == "standalone" && string(value) != "yes" && string(value) != "no":
			return r.syntax(NotWellFormed, r.pos, "standalone is yes or no")
		}
	}
	if len(names) == 3 {
		return r.syntax(NotWellFormed, r.pos, "the XML declaration has no version")
	}
	return true
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
	if end < 0 {
		return r.syntax(Truncated, r.pos, "a comment does not end")
	}
	if end+2 >= len(rest) || rest[end+2] != '>' {
		return r.syntax(NotWellFormed, r.pos, "a comment holds --")
	}
	r.pos += 4 + end + 3
	return true
}

// forbidden tells what begins at a '<': it is called where markup stands that
// must not.
func (r *Reader) forbidden() bool {
	rest := r.doc[r.pos:]
	switch {
	case bytes.HasPrefix(rest, []byte("<!DOCTYPE")):
		return r.syntax(DocumentType, r.pos, "a document type declaration is not allowed in SOAP")
	case bytes.HasPrefix(rest, []byte("<?")):
		return r.syntax(ProcessingInstruction, r.pos, "a processing instruction is not allowed in SOAP")
	case len(rest) < 2:
		return r.syntax(Truncated, r.pos, "the document ends inside a tag")
	}
	return r.syntax(NotWellFormed, r.pos, "markup that is neither an element, a comment nor CDATA")
}

// startTag reads the start tag at pos and pushes its element.
func (r *Reader) startTag() bool {
	start := r.pos
	if len(r.stack) >= r.limits.Depth {
		return r.limit("Depth", r.limits.Depth)
	}
	r.pos++
	raw := r.qname()
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
			return r.push(e)
		case c == '/':
			if r.pos+1 >= len(r.doc) || r.doc[r.pos+1] != '>' {
				return r.syntax(NotWellFormed, r.pos, "a / inside a tag is not followed by >")
			}
			r.pos += 2
			e.empty = true
			return r.push(e)
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
	name := r.qname()
	if name == nil {
		return false
	}
	r.skipSpace()
	if r.pos >= len(r.doc) || r.doc[r.pos] != '=' {
		return r.syntax(NotWellFormed, start, "the attribute %s has no value", name)
	}
	r.pos++
	r.skipSpace()
	if r.pos >= len(r.doc) || r.doc[r.pos] != '"' && r.doc[r.pos] != '\'' {
		return r.syntax(NotWellFormed, start, "the value of the attribute %s is not quoted", name)
	}
	quote := r.doc[r.pos]
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
	prefix, local, found := bytes.Cut(name, []byte(":"))
	if !found {
		prefix, local = nil, name
	}
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

// bind declares a namespace (Namespaces in XML 1.0, section 3).
func (r *Reader) bind(prefix, space []byte) bool {
	if len(r.bindings) >= r.limits.Namespaces {
		return r.limit("Namespaces", r.limits.Namespaces)
	}
	p, s := string(prefix), string(space)
	switch {
	case p == "xmlns", s == XMLNSNamespace, (p == "xml") != (s == XMLNamespace):
		return r.syntax(NotWellFormed, r.pos, "the prefixes xml and xmlns and their namespaces cannot be bound otherwise")
	case p != "" && s == "":
		return r.syntax(NotWellFormed, r.pos, "the prefix %s is bound to no namespace", p)
	}
	for _, b := range r.bindings[r.tagBindings:] {
		if bytes.Equal(b.prefix, prefix) {
			return r.syntax(NotWellFormed, r.pos, "the prefix %q is bound twice in one tag", p)
		}
	}
	r.bindings = append(r.bindings, binding{prefix, space})
	return true
}

// push resolves the names of a start tag and opens its element.
func (r *Reader) push(e element) bool {
	var ok bool
	prefix, local, found := bytes.Cut(e.raw, []byte(":"))
	if !found {
		prefix, local = nil, e.raw
	}
	if e.space, ok = r.Prefix(prefix); !ok {
		return r.syntax(NotWellFormed, e.start, "the prefix %s is bound to no namespace", prefix)
	}
	e.local = local
	for i := range r.attrs {
		a := &r.attrs[i]
		if len(a.Space) > 0 {
			prefix := a.Space
			if a.Space, ok = r.Prefix(prefix); !ok {
				return r.syntax(NotWellFormed, e.start, "the prefix %s is bound to no namespace", prefix)
			}
		}
		for _, b := range r.attrs[:i] {
			if bytes.Equal(a.Local, b.Local) && bytes.Equal(a.Space, b.Space) {
				return r.syntax(NotWellFormed, e.start, "the attribute %s stands twice in one tag", a.Local)
			}
		}
	}
	if n := len(r.stack); n > 0 {
		parent := &r.stack[n-1]
		if parent.children++; parent.children > r.limits.Children {
			return r.limit("Children", r.limits.Children)
		}
		if bytes.Equal(parent.last, local) {
			e.index = parent.lastIndex + 1
		}
		parent.last, parent.lastIndex = local, e.index
	}
	r.stack = append(r.stack, e)
	return true
}

// endTag reads the end tag at pos, which must be that of the innermost open element.
func (r *Reader) endTag() bool {
	start := r.pos
	open := &r.stack[len(r.stack)-1]
	r.pos += 2
	if !bytes.HasPrefix(r.doc[r.pos:], open.raw) {
		return r.syntax(NotWellFormed, start, "an end tag does not match <%s>", open.raw)
	}
	r.pos += len(open.raw)
	r.skipSpace()
	if r.pos >= len(r.doc) || r.doc[r.pos] != '>' {
		return r.syntax(NotWellFormed, start, "an end tag does not match <%s>", open.raw)
	}
	r.pos++
	return true
}

// qname reads a qualified name (Namespaces in XML 1.0, production 7); nil is an error.
func (r *Reader) qname() []byte {
	start, colon := r.pos, -1
	first := true
	for r.pos < len(r.doc) {
		c := r.doc[r.pos]
		if c == ':' {
			if colon >= 0 || first {
				break
			}
			colon, first = r.pos, true
			r.pos++
			continue
		}
		n := 1
		if c < utf8.RuneSelf {
			if !isNameASCII(c, first) {
				break
			}
		} else {
			var v rune
			if v, n = utf8.DecodeRune(r.doc[r.pos:]); !isNameRune(v, first) {
				break
			}
		}
		first = false
		r.pos += n
		if r.pos-start > r.limits.NameBytes {
			r.limit("NameBytes", r.limits.NameBytes)
			return nil
		}
	}
	if first {
		r.syntax(NotWellFormed, start, "a name was expected")
		return nil
	}
	return r.doc[start:r.pos]
}

func (r *Reader) skipSpace() bool {
	start := r.pos
	for r.pos < len(r.doc) && isSpace(r.doc[r.pos]) {
		r.pos++
	}
	return r.pos > start
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func isNameASCII(c byte, first bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || !first && (c >= '0' && c <= '9' || c == '-' || c == '.')
}

// isNameRune follows productions 4 and 4a of XML 1.0, fifth edition, for characters outside ASCII.
func isNameRune(v rune, first bool) bool {
	switch {
	case v >= 0xC0 && v <= 0x2FF && v != 0xD7 && v != 0xF7, v >= 0x370 && v <= 0x1FFF && v != 0x37E, v == 0x200C || v == 0x200D,
		v >= 0x2070 && v <= 0x218F, v >= 0x2C00 && v <= 0x2FEF, v >= 0x3001 && v <= 0xD7FF, v >= 0xF900 && v <= 0xFDCF,
		v >= 0xFDF0 && v <= 0xFFFD, v >= 0x10000 && v <= 0xEFFFF:
		return true
	}
	return !first && (v == 0xB7 || v >= 0x300 && v <= 0x36F || v >= 0x203F && v <= 0x2040)
}
