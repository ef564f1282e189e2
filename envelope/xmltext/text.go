package xmltext

import (
	"bytes"
	"unicode/utf8"
)

// Text gives the current element's text as it is and leaves the element; an element inside is an error. It is a
// part of the document where it could be.
func (r *Reader) Text() []byte {
	text, part := r.simple(r.limits.TextBytes)
	if part {
		return text
	}
	return bytes.Clone(text)
}

// simple reads the text of the current element, through its end tag: text, references and CDATA sections, with or
// without comments between them, join. Where the text is no part of the document, the next value overwrites it.
func (r *Reader) simple(most int) (text []byte, part bool) {
	if !r.inside() {
		return nil, true
	}
	part = true
	for r.inText() {
		if part && text == nil {
			if text = r.plain(); text != nil {
				if len(text) > most {
					r.limit("TextBytes", most)
					return nil, true
				}
				continue
			}
		}
		if part {
			r.text, part = append(r.text[:0], text...), false
		}
		var ok bool
		if r.text, ok = r.piece(r.text); !ok {
			return nil, true
		}
		if text = r.text; len(text) > most {
			r.limit("TextBytes", most)
			return nil, true
		}
	}
	if r.err != nil {
		return nil, true
	}
	return text, part
}

// inText goes on to the next piece of the current element's text. False is its end, and the element is left; or an
// error.
func (r *Reader) inText() bool {
	depth := len(r.stack)
	if r.stack[depth-1].empty || r.ahead == endTag {
		r.leave()
		return false
	}
	r.ahead = nothing
	for r.pos < len(r.doc) {
		if r.doc[r.pos] != '<' {
			return true
		}
		switch rest := r.doc[r.pos:]; {
		case bytes.HasPrefix(rest, []byte("</")):
			if r.endTag() {
				r.leave()
			}
			return false
		case bytes.HasPrefix(rest, []byte("<!--")):
			if !r.comment() {
				return false
			}
		case bytes.HasPrefix(rest, []byte("<![CDATA[")):
			return true
		case r.nameFollows():
			return r.schema("cvc-type.3.1.2", r.pos, depth, "", "text only, no elements")
		default:
			return r.forbidden()
		}
	}
	return r.unfinished()
}

// leave ends an element of simple content.
func (r *Reader) leave() {
	r.simpleAt = len(r.stack)
	r.pop()
}

// plain gives the text up to the next tag where that needs no change and no closer look, else nil.
func (r *Reader) plain() []byte {
	end := bytes.IndexByte(r.doc[r.pos:], '<')
	if end <= 0 {
		return nil
	}
	part := r.doc[r.pos : r.pos+end]
	if bytes.IndexByte(part, '&') >= 0 || bytes.IndexByte(part, '\r') >= 0 || bytes.IndexByte(part, ']') >= 0 {
		return nil
	}
	r.pos += end
	return part
}

// piece appends one run of text, one reference or one CDATA section to buf (XML 1.0 sections 2.4, 2.7, 2.11, 4.1).
func (r *Reader) piece(buf []byte) ([]byte, bool) {
	switch r.doc[r.pos] {
	case '&':
		v, n := reference(r.doc[r.pos:])
		if n == 0 {
			return buf, r.syntax(NotWellFormed, r.pos, "a reference to a character or entity that XML does not know; write & as &amp;")
		}
		r.pos += n
		return utf8.AppendRune(buf, v), true
	case '<':
		section, ok := r.cdata()
		return appendLines(buf, section), ok
	}
	run, ok := r.run()
	return appendLines(buf, run), ok
}

// cdata gives what the CDATA section at pos holds.
func (r *Reader) cdata() ([]byte, bool) {
	rest := r.doc[r.pos+len("<![CDATA["):]
	end := bytes.Index(rest, []byte("]]>"))
	if end < 0 {
		return nil, r.syntax(Truncated, r.pos, "a CDATA section does not end")
	}
	r.pos = len(r.doc) - len(rest) + end + len("]]>")
	return rest[:end], true
}

// run gives the text up to the next tag or reference.
func (r *Reader) run() ([]byte, bool) {
	end := bytes.IndexAny(r.doc[r.pos:], "<&")
	if end < 0 {
		end = len(r.doc) - r.pos
	}
	run := r.doc[r.pos : r.pos+end]
	if i := bytes.Index(run, []byte("]]>")); i >= 0 {
		return nil, r.syntax(NotWellFormed, r.pos+i, "]]> in text; write it as ]]&gt;")
	}
	r.pos += end
	return run, true
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
	if len(s) < 2 || s[1] != '#' {
		for i := range entities {
			if e := &entities[i]; bytes.HasPrefix(s[1:], []byte(e.name)) {
				return e.v, 1 + len(e.name)
			}
		}
		return 0, 0
	}
	digits, base := 2, rune(10)
	if len(s) > 2 && s[2] == 'x' {
		digits, base = 3, 16
	}
	for n = digits; n < len(s) && v <= utf8.MaxRune; n++ {
		d := rune(s[n])
		switch {
		case d == ';' && n > digits && isCharacter(v):
			return v, n + 1
		case d >= '0' && d <= '9':
			d -= '0'
		case base == 16 && d|0x20 >= 'a' && d|0x20 <= 'f':
			d = d | 0x20 - 'a' + 10
		default:
			return 0, 0
		}
		v = v*base + d
	}
	return 0, 0
}

// entities are those that XML has without a document type declaration (section 4.6).
var entities = [...]struct {
	name string
	v    rune
}{{"lt;", '<'}, {"gt;", '>'}, {"amp;", '&'}, {"quot;", '"'}, {"apos;", '\''}}

// attributeValue normalises a value (XML 1.0 section 3.3.3).
func (r *Reader) attributeValue(raw []byte) ([]byte, bool) {
	if bytes.IndexByte(raw, '<') >= 0 {
		return nil, r.syntax(NotWellFormed, r.pos, "< in an attribute's value; write it as &lt;")
	}
	if !bytes.ContainsAny(raw, "&\t\r\n") {
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
