package xmltext

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// Writer writes one document, or a part of one, to memory. Elements of the namespace that
// [Writer.OpenNamespace] declared are written with one prefix. Errors are sticky. It is not for concurrent use.
type Writer struct {
	buf  []byte
	open []name
	err  error
}

type name struct{ prefix, local string }

// prefix is the one that elements of the contract are written with.
const prefix = "b"

var writers = sync.Pool{New: func() any { return new(Writer) }}

// NewWriter makes a writer; [Writer.Release] gives it back, after which what it wrote is no longer valid.
func NewWriter() *Writer {
	w := writers.Get().(*Writer)
	w.Reset()
	return w
}

const mostKept = 1 << 20

// Release lets another document use the writer.
func (w *Writer) Release() {
	if cap(w.buf) > mostKept {
		w.buf = nil
	}
	writers.Put(w)
}

// Reset forgets what was written, and the error.
func (w *Writer) Reset() { w.buf, w.open, w.err = w.buf[:0], w.open[:0], nil }

// Bytes are what was written.
func (w *Writer) Bytes() []byte { return w.buf }

// Err is the first error.
func (w *Writer) Err() error { return w.err }

// Fail makes an error of the message the writer's.
func (w *Writer) Fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// Raw writes markup as it is.
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
	w.open = append(w.open, name{prefix, local})
}

// OpenNamespace opens an element and declares its namespace, for it and what is inside.
func (w *Writer) OpenNamespace(space, local string) { w.Start(prefix, local, "xmlns:"+prefix, space) }

// Open opens an element in the namespace that [Writer.OpenNamespace] declared.
func (w *Writer) Open(local string) { w.Start(prefix, local) }

// Close closes the innermost open element.
func (w *Writer) Close() {
	n := len(w.open) - 1
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
	w.buf = append(append(append(w.buf, '<'), prefix+":"...), local...)
	w.buf = append(w.buf, '>')
}

func (w *Writer) end(local string) {
	w.buf = append(append(append(w.buf, '<', '/'), prefix+":"...), local...)
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

// DateTime writes an element with a time, in UTC.
func (w *Writer) DateTime(local string, t time.Time) {
	t = t.UTC()
	if y := t.Year(); y < 1 || y > 9999 {
		w.Fail(fmt.Errorf("%s: the year %d cannot be written", local, y))
		return
	}
	w.begin(local)
	w.buf = t.AppendFormat(w.buf, "2006-01-02T15:04:05.999999999Z")
	w.end(local)
}

// escape writes text so that a reader gives the same; a carriage return, and white space in an attribute, as
// references.
func (w *Writer) escape(s string, attribute bool) {
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			v, n := utf8.DecodeRuneInString(s[i:])
			if v == utf8.RuneError && n <= 1 || v == 0xFFFE || v == 0xFFFF {
				w.Fail(fmt.Errorf("text at byte %d holds what XML cannot: %q", i, s[i:min(len(s), i+4)]))
				return
			}
			i += n
			continue
		}
		var ref string
		switch {
		case c == '&':
			ref = "&amp;"
		case c == '<':
			ref = "&lt;"
		case c == '>':
			ref = "&gt;"
		case c == '\r':
			ref = "&#13;"
		case attribute && c == '"':
			ref = "&quot;"
		case attribute && c == '\n':
			ref = "&#10;"
		case attribute && c == '\t':
			ref = "&#9;"
		case c < 0x20 && c != '\n' && c != '\t':
			w.Fail(fmt.Errorf("text at byte %d holds a control character (0x%02x) that XML cannot", i, c))
			return
		default:
			i++
			continue
		}
		w.buf = append(append(w.buf, s[from:i]...), ref...)
		i++
		from = i
	}
	w.buf = append(w.buf, s[from:]...)
}
