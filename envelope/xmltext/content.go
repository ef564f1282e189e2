package xmltext

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// SetNamespace names the namespace that the elements asked for are in.
func (r *Reader) SetNamespace(space string) { r.namespace = space }

// Root reads up to the root element and makes it current.
func (r *Reader) Root() bool {
	if r.err != nil || !r.begin() || !r.prolog() {
		return false
	}
	if r.pos >= len(r.doc) {
		return r.syntax(Truncated, r.pos, "the document holds no element")
	}
	if r.doc[r.pos] != '<' {
		return r.syntax(NotWellFormed, r.pos, "text stands before the first element")
	}
	if !r.nameFollows() {
		return r.forbidden()
	}
	return r.startTag()
}

// EndDocument checks that nothing but comments and white space follows the root element.
func (r *Reader) EndDocument() bool {
	if r.err != nil || !r.misc() {
		return false
	}
	if r.pos < len(r.doc) {
		if bytes.HasPrefix(r.doc[r.pos:], []byte("<?")) || bytes.HasPrefix(r.doc[r.pos:], []byte("<!")) {
			return r.forbidden()
		}
		return r.syntax(NotWellFormed, r.pos, "something follows the end of the document")
	}
	return true
}

// Name is the current element's expanded name.
func (r *Reader) Name() (space, local []byte) {
	if len(r.stack) == 0 {
		return nil, nil
	}
	e := &r.stack[len(r.stack)-1]
	return e.space, e.local
}

// Is says whether the current element has a name.
func (r *Reader) Is(space, local string) bool {
	s, l := r.Name()
	return string(l) == local && string(s) == space
}

// Attrs are the current element's attributes, without the declarations of namespaces. They are valid until the
// next element is read.
func (r *Reader) Attrs() []Attr { return r.attrs }

// Attr gives an attribute of the current element.
func (r *Reader) Attr(space, local string) (value []byte, ok bool) {
	for _, a := range r.attrs {
		if string(a.Local) == local && string(a.Space) == space {
			return a.Value, true
		}
	}
	return nil, false
}

// Prefix gives the namespace that a prefix is bound to; the empty prefix may be bound to none.
func (r *Reader) Prefix(prefix []byte) (space []byte, ok bool) {
	if string(prefix) == "xml" {
		return []byte(XMLNamespace), true
	}
	for i := len(r.bindings) - 1; i >= 0; i-- {
		if bytes.Equal(r.bindings[i].prefix, prefix) {
			return r.bindings[i].space, true
		}
	}
	return nil, len(prefix) == 0
}

// Open enters the current element, whose content is a sequence: its attributes are checked, and what it holds is
// asked for with [Reader.More] and [Reader.Need].
func (r *Reader) Open(typeName string) {
	if r.err == nil {
		r.checkAttributes(typeName)
	}
}

// Enter is [Reader.Open] for an element of another vocabulary, whose attributes the caller looks at.
func (r *Reader) Enter() {}

// More says whether the next child of the open element has this local name, in the namespace that was set; then
// it is current.
func (r *Reader) More(local string) bool { return r.MoreIn(r.namespace, local) }

// MoreIn is [Reader.More] with a namespace of its own.
func (r *Reader) MoreIn(space, local string) bool {
	if r.Child() && r.Is(space, local) {
		r.ahead = nothing
		return true
	}
	return false
}

// Any makes the next child current, whatever its name; false says that there is none.
func (r *Reader) Any() bool {
	if r.Child() {
		r.ahead = nothing
		return true
	}
	return false
}

// Need is [Reader.More] where the schema requires the element.
func (r *Reader) Need(local string) bool {
	if r.More(local) {
		return true
	}
	if r.err == nil {
		if r.ahead == startTag {
			r.unexpected("the element " + local)
		} else {
			r.schema("cvc-complex-type.2.4.b", r.pos, len(r.stack), "", "the element "+local)
		}
	}
	return false
}

// Close leaves the open element: nothing may follow in it.
func (r *Reader) Close() {
	if r.err != nil {
		return
	}
	if r.Child() {
		r.unexpected("the end of " + string(r.stack[len(r.stack)-2].local))
		return
	}
	if r.err == nil {
		r.pop()
	}
}

// Count bounds repeated children beyond what the limit of one element's children does.
func (r *Reader) Count(n int, what string) bool {
	if r.err == nil && n > r.limits.Children {
		r.limit("Children", r.limits.Children)
	}
	return r.err == nil
}

// Child reads ahead to the next child of the open element; false is its end, or an error.
func (r *Reader) Child() bool {
	if r.err != nil {
		return false
	}
	if r.ahead != nothing {
		return r.ahead == startTag
	}
	if r.stack[len(r.stack)-1].empty {
		r.ahead = endTag
		return false
	}
	for r.pos < len(r.doc) {
		switch c := r.doc[r.pos]; {
		case isSpace(c):
			r.pos++
		case c != '<':
			return r.schema("cvc-complex-type.2.3", r.pos, len(r.stack), snippet(r.doc[r.pos:]), "elements only, no text")
		case bytes.HasPrefix(r.doc[r.pos:], []byte("</")):
			if r.endTag() {
				r.ahead = endTag
			}
			return false
		case bytes.HasPrefix(r.doc[r.pos:], []byte("<!--")):
			if !r.comment() {
				return false
			}
		case bytes.HasPrefix(r.doc[r.pos:], []byte("<![CDATA[")):
			return r.schema("cvc-complex-type.2.3", r.pos, len(r.stack), "", "elements only, no CDATA")
		case !r.nameFollows():
			return r.forbidden()
		default:
			if !r.startTag() {
				return false
			}
			r.ahead = startTag
			return true
		}
	}
	return r.syntax(Truncated, r.pos, "the document ends inside <%s>", r.stack[len(r.stack)-1].raw)
}

// Skip passes over the current element, which is checked to be well formed and within the limits.
func (r *Reader) Skip() {
	depth := len(r.stack)
	for r.err == nil {
		switch {
		case len(r.stack) < depth:
			return
		case r.mixedChild():
			r.ahead = nothing
		case r.err == nil:
			r.pop()
		}
	}
}

// mixedChild is [Reader.Child] where text may stand.
func (r *Reader) mixedChild() bool {
	for !r.stack[len(r.stack)-1].empty && r.pos < len(r.doc) {
		if r.doc[r.pos] != '<' || bytes.HasPrefix(r.doc[r.pos:], []byte("<![CDATA[")) {
			if _, ok := r.piece(nil); !ok {
				return false
			}
			continue
		}
		break
	}
	return r.Child()
}

// Span gives the part of the document from an offset to here.
func (r *Reader) Span(from int) []byte { return r.doc[from:r.pos] }

// Start is the offset of the current element's tag.
func (r *Reader) Start() int { return r.stack[len(r.stack)-1].start }

func (r *Reader) pop() {
	n := len(r.stack) - 1
	r.bindings = r.bindings[:r.stack[n].bindings]
	r.stack = r.stack[:n]
	r.ahead = nothing
}

func (r *Reader) nameFollows() bool {
	if r.pos+1 >= len(r.doc) {
		return false
	}
	c := r.doc[r.pos+1]
	return c >= utf8.RuneSelf || isNameASCII(c, true)
}

// Text gives the current element's text and leaves it; an element inside is an error. The text is a part of
// the document where it could be.
func (r *Reader) Text() []byte { return r.simple(r.limits.TextBytes) }

func (r *Reader) simple(most int) []byte {
	if r.err != nil {
		return nil
	}
	n := len(r.stack) - 1
	r.value = value{element: r.stack[n], depth: n + 1, set: true}
	var text []byte
	whole := true // text is a part of the document
	for !r.stack[n].empty {
		if r.pos >= len(r.doc) {
			r.syntax(Truncated, r.pos, "the document ends inside <%s>", r.stack[n].raw)
			return nil
		}
		if r.doc[r.pos] == '<' {
			rest := r.doc[r.pos:]
			switch {
			case bytes.HasPrefix(rest, []byte("</")):
				if !r.endTag() {
					return nil
				}
				r.pop()
				return text
			case bytes.HasPrefix(rest, []byte("<!--")):
				if !r.comment() {
					return nil
				}
				continue
			case bytes.HasPrefix(rest, []byte("<![CDATA[")):
			case r.nameFollows():
				r.schema("cvc-type.3.1.2", r.pos, n+1, "", "text only, no elements")
				return nil
			default:
				r.forbidden()
				return nil
			}
		}
		if text == nil && whole && r.doc[r.pos] != '<' {
			if part := r.plain(); part != nil {
				text = part
				if len(text) > most {
					r.limit("TextBytes", most)
					return nil
				}
				continue
			}
		}
		if whole {
			text, whole = append(make([]byte, 0, len(text)+64), text...), false
		}
		var ok bool
		if text, ok = r.piece(text); !ok {
			return nil
		}
		if len(text) > most {
			r.limit("TextBytes", most)
			return nil
		}
	}
	r.pop()
	return nil
}

// plain gives the text up to the next tag where it needs no change, else nil.
func (r *Reader) plain() []byte {
	end := bytes.IndexByte(r.doc[r.pos:], '<')
	if end <= 0 {
		return nil
	}
	part := r.doc[r.pos : r.pos+end]
	if bytes.IndexByte(part, '&') >= 0 || bytes.IndexByte(part, '\r') >= 0 || bytes.Contains(part, []byte("]]>")) {
		return nil
	}
	r.pos += end
	return part
}

// piece appends one run of text, one reference or one CDATA section to buf (XML 1.0 sections 2.4, 2.7, 2.11, 4.1).
func (r *Reader) piece(buf []byte) ([]byte, bool) {
	if r.doc[r.pos] == '&' {
		v, n := reference(r.doc[r.pos:])
		if n == 0 {
			return nil, r.syntax(NotWellFormed, r.pos, "a reference to a character or entity that XML does not know; write & as &amp;")
		}
		r.pos += n
		return utf8.AppendRune(buf, v), true
	}
	if bytes.HasPrefix(r.doc[r.pos:], []byte("<![CDATA[")) {
		rest := r.doc[r.pos+9:]
		end := bytes.Index(rest, []byte("]]>"))
		if end < 0 {
			return nil, r.syntax(Truncated, r.pos, "a CDATA section does not end")
		}
		r.pos += 9 + end + 3
		return appendLines(buf, rest[:end]), true
	}
	end := bytes.IndexAny(r.doc[r.pos:], "<&")
	if end < 0 {
		end = len(r.doc) - r.pos
	}
	part := r.doc[r.pos : r.pos+end]
	if i := bytes.Index(part, []byte("]]>")); i >= 0 {
		return nil, r.syntax(NotWellFormed, r.pos+i, "]]> in text; write it as ]]&gt;")
	}
	r.pos += end
	return appendLines(buf, part), true
}

// appendLines appends text with its line ends as XML has them.
func appendLines(buf, text []byte) []byte {
	for {
		i := bytes.IndexByte(text, '\r')
		if i < 0 {
			return append(buf, text...)
		}
		buf = append(append(buf, text[:i]...), '\n')
		text = text[i+1:]
		if len(text) > 0 && text[0] == '\n' {
			text = text[1:]
		}
	}
}

// reference reads a character reference or one of the five entities; n is 0 where it is neither.
func reference(s []byte) (v rune, n int) {
	end := bytes.IndexByte(s[:min(len(s), 16)], ';')
	if end < 2 {
		return 0, 0
	}
	switch name := string(s[1:end]); name {
	case "lt":
		v = '<'
	case "gt":
		v = '>'
	case "amp":
		v = '&'
	case "quot":
		v = '"'
	case "apos":
		v = '\''
	default:
		digits, base := strings.TrimPrefix(name, "#"), 10
		if digits == name {
			return 0, 0
		}
		if hex := strings.TrimPrefix(digits, "x"); hex != digits {
			digits, base = hex, 16
		}
		u, err := strconv.ParseUint(digits, base, 32)
		if err != nil || strings.ContainsAny(digits, "_+") || !isCharacter(rune(u)) || u > utf8.MaxRune {
			return 0, 0
		}
		v = rune(u)
	}
	return v, end + 1
}

// isCharacter is production 2 of XML 1.0.
func isCharacter(v rune) bool {
	return v == '\t' || v == '\n' || v == '\r' || v >= 0x20 && v <= 0xD7FF || v >= 0xE000 && v <= 0xFFFD || v >= 0x10000 && v <= 0x10FFFF
}

// attributeValue normalises a value (XML 1.0 section 3.3.3).
func (r *Reader) attributeValue(raw []byte) ([]byte, bool) {
	if bytes.IndexByte(raw, '<') >= 0 {
		return nil, r.syntax(NotWellFormed, r.pos, "< in an attribute's value; write it as &lt;")
	}
	if bytes.IndexAny(raw, "&\t\r\n") < 0 {
		return raw, true
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case '&':
			v, n := reference(raw[i:])
			if n == 0 {
				return nil, r.syntax(NotWellFormed, r.pos+i, "a reference to a character or entity that XML does not know; write & as &amp;")
			}
			out = utf8.AppendRune(out, v)
			i += n - 1
		case '\r':
			if i+1 < len(raw) && raw[i+1] == '\n' {
				i++
			}
			out = append(out, ' ')
		case '\n', '\t':
			out = append(out, ' ')
		default:
			out = append(out, c)
		}
	}
	return out, true
}

// checkAttributes allows what every schema allows on an element without attributes: where the schema is, and
// the type that the element has anyway (XML Schema Part 1, section 2.6).
func (r *Reader) checkAttributes(typeName string) bool {
	for _, a := range r.attrs {
		if string(a.Space) != InstanceNamespace {
			return r.schema("cvc-complex-type.3.2.2", r.Start(), len(r.stack), string(a.Local), "no attribute "+string(a.Local))
		}
		switch string(a.Local) {
		case "schemaLocation", "noNamespaceSchemaLocation":
		case "nil":
			return r.schema("cvc-elt.3.1", r.Start(), len(r.stack), string(a.Value), "no xsi:nil: leave the element out")
		case "type":
			prefix, local, found := bytes.Cut(bytes.TrimSpace(a.Value), []byte(":"))
			if !found {
				prefix, local = nil, prefix
			}
			want := r.namespace
			if typeName != "" && typeName[0] >= 'a' && typeName[0] <= 'z' {
				want = SchemaNamespace
			}
			if space, ok := r.Prefix(prefix); !ok || string(local) != typeName || string(space) != want {
				return r.schema("cvc-elt.4.3", r.Start(), len(r.stack), string(a.Value), "the type "+typeName)
			}
		default:
			return r.schema("cvc-complex-type.3.2.2", r.Start(), len(r.stack), string(a.Local), "no attribute xsi:"+string(a.Local))
		}
	}
	return true
}

func snippet(text []byte) string {
	if i := bytes.IndexByte(text, '<'); i >= 0 {
		text = text[:i]
	}
	return string(bytes.ToValidUTF8(text[:min(len(text), 64)], nil))
}

// HasElements says whether the current element holds an element before any other than white space; nothing is
// taken.
func (r *Reader) HasElements() bool {
	if r.err != nil || r.stack[len(r.stack)-1].empty {
		return false
	}
	for i := r.pos; i < len(r.doc); {
		switch rest := r.doc[i:]; {
		case isSpace(rest[0]):
			i++
		case bytes.HasPrefix(rest, []byte("<!--")):
			end := bytes.Index(rest[4:], []byte("-->"))
			if end < 0 {
				return false
			}
			i += 4 + end + 3
		default:
			return rest[0] == '<' && len(rest) > 1 && (rest[1] >= utf8.RuneSelf || isNameASCII(rest[1], true))
		}
	}
	return false
}
