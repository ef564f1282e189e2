package xmltext

import (
	"bytes"
	"unicode/utf8"
)

// SetNamespace names the namespace that the elements asked for are in.
func (r *Reader) SetNamespace(space string) { r.namespace = space }

// Root reads up to the root element and makes it current.
func (r *Reader) Root() bool {
	if r.err == nil && r.rooted {
		r.err = ErrNoElement
	}
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
	r.rooted = true
	return r.startTag()
}

// EndDocument checks that the root element was read to its end, and that nothing but comments and white space
// follows it.
func (r *Reader) EndDocument() bool {
	if r.err == nil && (!r.rooted || len(r.stack) > 0) {
		r.err = ErrNoElement
	}
	if r.err != nil || !r.misc() {
		return false
	}
	if r.pos < len(r.doc) {
		if bytes.HasPrefix(r.doc[r.pos:], []byte("<?")) || bytes.HasPrefix(r.doc[r.pos:], []byte("<!")) {
			return r.forbidden()
		}
		return r.syntax(NotWellFormed, r.pos, "something follows the end of the root element, which is the document's only one")
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

// Attr gives an attribute of the current element.
func (r *Reader) Attr(space, local string) (value []byte, ok bool) {
	for i := range r.attrs {
		if a := &r.attrs[i]; string(a.Local) == local && string(a.Space) == space {
			return a.Value, true
		}
	}
	return nil, false
}

// lookup gives the namespace that a prefix is bound to; the empty prefix may be bound to none.
func lookup(bindings []binding, prefix []byte) (space []byte, ok bool) {
	for i := len(bindings) - 1; i >= 0; i-- {
		if bytes.Equal(bindings[i].prefix, prefix) {
			return bindings[i].space, true
		}
	}
	if string(prefix) == "xml" {
		return xmlNamespace, true
	}
	return nil, len(prefix) == 0
}

var xmlNamespace = []byte(XMLNamespace)

// Open enters the current element, whose content is a sequence: its attributes are checked, and what it holds is
// asked for with [Reader.More] and [Reader.Need].
func (r *Reader) Open(typeName string) {
	if r.inside() {
		r.checkAttributes(typeName)
	}
}

// More says whether the next child of the open element has this local name, in the namespace that was set; then
// it is current. A child of another name stays pending, for the next question.
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
func (r *Reader) Need(local string) bool { return r.NeedIn(r.namespace, local) }

// NeedIn is [Reader.Need] with a namespace of its own.
func (r *Reader) NeedIn(space, local string) bool {
	return r.MoreIn(space, local) || r.lacks("the element "+local)
}

// NeedAny is [Reader.Any] where there must be a child; what says which.
func (r *Reader) NeedAny(what string) bool { return r.Any() || r.lacks(what) }

// lacks reports that what is expected next in the open element is not there.
func (r *Reader) lacks(what string) bool {
	if r.err == nil && r.ahead == startTag {
		return r.unexpected(what)
	}
	return r.schema("cvc-complex-type.2.4.b", r.pos, len(r.stack), "", what)
}

// Close leaves the open element: nothing may follow in it.
func (r *Reader) Close() {
	if r.Child() {
		r.unexpected("the end of " + string(r.stack[len(r.stack)-2].local))
		return
	}
	if r.err == nil {
		r.pop()
	}
}

// Child reads ahead to the next child of the open element; false is its end, or an error. Only white space and
// comments may stand before it.
func (r *Reader) Child() bool {
	if !r.inside() {
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
		c := r.doc[r.pos]
		if isSpace(c) {
			r.pos++
			continue
		}
		if c == '<' && r.nameFollows() {
			if !r.startTag() {
				return false
			}
			r.ahead = startTag
			return true
		}
		switch rest := r.doc[r.pos:]; {
		case c != '<', bytes.HasPrefix(rest, []byte("<![CDATA[")):
			if !r.blank() {
				return false
			}
		case bytes.HasPrefix(rest, []byte("</")):
			if r.endTag() {
				r.ahead = endTag
			}
			return false
		case bytes.HasPrefix(rest, []byte("<!--")):
			if !r.comment() {
				return false
			}
		default:
			return r.forbidden()
		}
	}
	return r.unfinished()
}

// blank reads a reference, a CDATA section or text between elements: it may stand for white space only (XML Schema
// Part 1, cvc-complex-type 2.3).
func (r *Reader) blank() (ok bool) {
	at := r.pos
	if r.text, ok = r.piece(r.text[:0]); !ok {
		return false
	}
	if text := bytes.Trim(r.text, white); len(text) > 0 {
		return r.schema("cvc-complex-type.2.3", at, len(r.stack), string(text), "an element, and no text,")
	}
	return true
}

// Skip passes over the current element, which is checked to be well formed and within the limits.
func (r *Reader) Skip() {
	if !r.inside() {
		return
	}
	for depth := len(r.stack); r.err == nil && len(r.stack) >= depth; {
		if !r.mixed() {
			return
		}
		if r.Child() {
			r.ahead = nothing
		} else if r.err == nil {
			r.pop()
		}
	}
}

// mixed reads the text before the next tag of the open element, where text may stand.
func (r *Reader) mixed() (ok bool) {
	r.text = r.text[:0]
	if r.ahead != nothing || r.stack[len(r.stack)-1].empty {
		return true
	}
	for r.pos < len(r.doc) {
		switch rest := r.doc[r.pos:]; {
		case rest[0] != '<', bytes.HasPrefix(rest, []byte("<![CDATA[")):
			if r.text, ok = r.piece(r.text); !ok {
				return false
			}
			if len(r.text) > r.limits.TextBytes {
				return r.limit("TextBytes", r.limits.TextBytes)
			}
		case bytes.HasPrefix(rest, []byte("<!--")):
			if !r.comment() {
				return false
			}
		default:
			return true
		}
	}
	return r.unfinished()
}

// HasElements says whether the current element holds an element before any other than white space; nothing is
// taken.
func (r *Reader) HasElements() bool {
	if r.err != nil || len(r.stack) == 0 || r.stack[len(r.stack)-1].empty {
		return false
	}
	if r.ahead != nothing {
		return r.ahead == startTag
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
			return len(rest) > 1 && rest[0] == '<' && (rest[1] >= utf8.RuneSelf || nameClass[rest[1]]&nameStart != 0)
		}
	}
	return false
}

// start is the offset of the current element's tag.
func (r *Reader) start() int { return r.stack[len(r.stack)-1].start }

func (r *Reader) pop() {
	n := len(r.stack) - 1
	r.bindings = r.bindings[:r.stack[n].bindings]
	r.stack = r.stack[:n]
	r.ahead = nothing
}

// nameFollows says whether a name follows the < at pos: it begins a start tag.
func (r *Reader) nameFollows() bool {
	if r.pos+1 >= len(r.doc) {
		return false
	}
	c := r.doc[r.pos+1]
	return c >= utf8.RuneSelf || nameClass[c]&nameStart != 0
}

func (r *Reader) unfinished() bool {
	return r.syntax(Truncated, r.pos, "the document ends inside <%s>", r.stack[len(r.stack)-1].raw)
}

// checkAttributes allows what every schema allows on an element without attributes: where the schema is, and
// the type that the element has anyway (XML Schema Part 1, section 2.6).
func (r *Reader) checkAttributes(typeName string) bool {
	for i := range r.attrs {
		a := &r.attrs[i]
		local, value := string(a.Local), string(a.Value)
		if string(a.Space) != InstanceNamespace {
			return r.schema("cvc-complex-type.3.2.2", r.start(), len(r.stack), local, "no attribute")
		}
		switch local {
		case "schemaLocation", "noNamespaceSchemaLocation":
		case "nil":
			return r.schema("cvc-elt.3.1", r.start(), len(r.stack), value, "no xsi:nil; an element without a value is left out, and that")
		case "type":
			want := Name{r.namespace, typeName}
			if typeName != "" && typeName[0] >= 'a' && typeName[0] <= 'z' {
				want.Space = SchemaNamespace
			}
			if name, ok := resolve(r.bindings, a.Value); !ok || name != want {
				return r.schema("cvc-elt.4.3", r.start(), len(r.stack), value, "the type "+want.String())
			}
		default:
			return r.schema("cvc-complex-type.3.2.2", r.start(), len(r.stack), "xsi:"+local, "no attribute")
		}
	}
	return true
}
