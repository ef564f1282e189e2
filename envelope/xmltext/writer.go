package xmltext

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Writer writes one document, or a part of one, to memory. Elements of the namespace that
// [Writer.OpenNamespace] declared are written with one prefix. Texts and values are checked and escaped; names of
// elements and attributes are the program's own and written as they are. Errors are sticky: what was written is of
// use only while [Writer.Err] is nil. It is not for concurrent use.
type Writer struct {
	buf     []byte
	open    []tag
	replace bool // what XML cannot hold, instead of failing
	err     error
}

type tag struct{ prefix, local string }

// contract is the prefix that elements of the contract are written with.
const contract = "b"

var writers = sync.Pool{New: func() any { return new(Writer) }}

// NewWriter makes a writer; [Writer.Release] gives it back, after which what it wrote is no longer valid.
func NewWriter() *Writer {
	w := writers.Get().(*Writer)
	w.Reset()
	return w
}

// mostKept bounds the memory that an idle writer or reader holds.
const mostKept = 1 << 20

// Release lets another document use the writer.
func (w *Writer) Release() {
	if cap(w.buf) > mostKept {
		w.buf = nil
	}
	writers.Put(w)
}

// Reset forgets what was written, and the error.
func (w *Writer) Reset() { *w = Writer{buf: w.buf[:0], open: w.open[:0]} }

// Replace makes the writer put U+FFFD where a text holds what XML cannot, and not fail: for texts that must be written
// whatever they quote.
func (w *Writer) Replace() { w.replace = true }

// Bytes are what was written.
func (w *Writer) Bytes() []byte { return w.buf }

// Err is the first error: a character that XML cannot hold, a value that its type cannot, or what was given to
// [Writer.Fail].
func (w *Writer) Err() error { return w.err }

// Fail makes an error of the message the writer's.
func (w *Writer) Fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// Raw writes markup as it is. It is for what is known to be well formed, and for nothing that came from outside.
func (w *Writer) Raw(markup string) { w.buf = append(w.buf, markup...) }

// Start opens an element with a prefix that is declared already, or by one of the attributes, which are names
// and values in turn.
func (w *Writer) Start(prefix, local string, attributes ...string) {
	w.buf = append(w.buf, '<')
	w.name(prefix, local)
	for i := 0; i+1 < len(attributes); i += 2 {
		w.buf = append(append(append(w.buf, ' '), attributes[i]...), '=', '"')
		w.escape(attributes[i+1], true)
		w.buf = append(w.buf, '"')
	}
	w.buf = append(w.buf, '>')
	w.open = append(w.open, tag{prefix, local})
}

// OpenNamespace opens an element and declares its namespace, for it and what is inside.
func (w *Writer) OpenNamespace(space, local string) {
	w.Start(contract, local, "xmlns:"+contract, space)
}

// Open opens an element in the namespace that [Writer.OpenNamespace] declared.
func (w *Writer) Open(local string) { w.Start(contract, local) }

// Close closes the innermost open element.
func (w *Writer) Close() {
	n := len(w.open) - 1
	if n < 0 {
		w.Fail(ErrNoElement)
		return
	}
	w.buf = append(w.buf, '<', '/')
	w.name(w.open[n].prefix, w.open[n].local)
	w.buf = append(w.buf, '>')
	w.open = w.open[:n]
}

func (w *Writer) name(prefix, local string) {
	if prefix != "" {
		w.buf = append(append(w.buf, prefix...), ':')
	}
	w.buf = append(w.buf, local...)
}

func (w *Writer) begin(local string) {
	w.buf = append(w.buf, '<')
	w.name(contract, local)
	w.buf = append(w.buf, '>')
}

func (w *Writer) end(local string) {
	w.buf = append(w.buf, '<', '/')
	w.name(contract, local)
	w.buf = append(w.buf, '>')
}

// Text writes text inside the open element.
func (w *Writer) Text(s string) { w.escape(s, false) }

// String writes an element with text.
func (w *Writer) String(local, v string) {
	w.begin(local)
	w.escape(v, false)
	w.end(local)
}

// Bool writes an element with a boolean.
func (w *Writer) Bool(local string, v bool) {
	w.begin(local)
	w.buf = strconv.AppendBool(w.buf, v)
	w.end(local)
}

// Int64 writes an element with an integer.
func (w *Writer) Int64(local string, v int64) {
	w.begin(local)
	w.buf = strconv.AppendInt(w.buf, v, 10)
	w.end(local)
}

// Uint64 writes an element with an unsigned integer.
func (w *Writer) Uint64(local string, v uint64) {
	w.begin(local)
	w.buf = strconv.AppendUint(w.buf, v, 10)
	w.end(local)
}

// Base64 writes an element with binary content.
func (w *Writer) Base64(local string, v []byte) {
	w.begin(local)
	w.buf = base64.StdEncoding.AppendEncode(w.buf, v)
	w.end(local)
}

// DateTime writes an element with a time, in UTC with a Z and with as many digits of a second as it has.
func (w *Writer) DateTime(local string, t time.Time) {
	t = t.UTC()
	if y := t.Year(); y < 1 || y > 9999 {
		w.Fail(fmt.Errorf("%s: the year %d cannot be written; years are 1 to 9999", local, y))
		return
	}
	w.begin(local)
	w.buf = t.AppendFormat(w.buf, "2006-01-02T15:04:05.999999999Z")
	w.end(local)
}

// Classes of bytes in text that is to be written.
const (
	plain       = iota
	quoted      // always a reference
	quotedValue // a reference in an attribute's value
	wide        // begins a character outside ASCII
	refused
)

var textClass = func() (table [256]uint8) {
	for c := range table {
		switch {
		case strings.IndexByte("&<>\r", byte(c)) >= 0:
			table[c] = quoted
		case strings.IndexByte("\"\t\n", byte(c)) >= 0:
			table[c] = quotedValue
		case c < 0x20:
			table[c] = refused
		case c >= utf8.RuneSelf:
			table[c] = wide
		}
	}
	return table
}()

var references = map[byte]string{'&': "&amp;", '<': "&lt;", '>': "&gt;", '\r': "&#13;", '"': "&quot;", '\t': "&#9;", '\n': "&#10;"}

// escape writes text so that a reader gives the same: a carriage return, and white space in an attribute, as
// references (XML 1.0, sections 2.11 and 3.3.3).
func (w *Writer) escape(s string, attribute bool) {
	from := 0
	for i := 0; i < len(s); {
		switch class := textClass[s[i]]; {
		case class == plain, class == quotedValue && !attribute:
			i++
		case class == wide:
			v, n := utf8.DecodeRuneInString(s[i:])
			if v == utf8.RuneError && n <= 1 || !isCharacter(v) {
				w.refuse(s, from, i, n)
				from = i + n
			}
			i += n
		case class == refused:
			w.refuse(s, from, i, 1)
			i++
			from = i
		default:
			w.buf = append(append(w.buf, s[from:i]...), references[s[i]]...)
			i++
			from = i
		}
	}
	w.buf = append(w.buf, s[from:]...)
}

// refuse deals with n bytes that XML cannot hold; what stands before them from an offset on is still to be written.
func (w *Writer) refuse(s string, from, at, n int) {
	if w.replace {
		w.buf = append(append(w.buf, s[from:at]...), "\uFFFD"...)
		return
	}
	in := "text"
	if len(w.open) > 0 {
		in = "text in " + w.open[len(w.open)-1].local
	}
	w.Fail(fmt.Errorf("%s: byte %d begins %q, which XML cannot hold", in, at, s[at:at+n]))
}
