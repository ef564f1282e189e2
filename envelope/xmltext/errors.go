package xmltext

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The codes of a [SyntaxError].
const (
	NotWellFormed         = "NotWellFormed"
	InvalidCharacter      = "InvalidCharacter"
	EncodingNotSupported  = "EncodingNotSupported"
	Truncated             = "Truncated"
	DocumentType          = "DocumentType"
	ProcessingInstruction = "ProcessingInstruction"
	LimitExceeded         = "LimitExceeded"
)

// SyntaxError says that a document is not well formed, holds what SOAP forbids, or exceeds a limit. Path is the
// element inside which it was found, empty outside of the root. Limit and Most are set for the code
// LimitExceeded.
type SyntaxError struct {
	Code    string
	Path    string
	Line    int
	Message string
	Limit   string
	Most    int
}

func (e *SyntaxError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("line %d: %s", e.Line, e.Message)
	}
	return fmt.Sprintf("%s (line %d): %s", e.Path, e.Line, e.Message)
}

// SchemaError says that a document is not what its schema allows: the element at fault, the rule of XML Schema
// Part 1, appendix C, that it breaks, and what would be right.
type SchemaError struct {
	Path     string
	Line     int
	Rule     string
	Value    string
	Expected string
}

func (e *SchemaError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s (line %d): %s is expected (%s)", e.Path, e.Line, e.Expected, e.Rule)
	}
	return fmt.Sprintf("%s (line %d): %q stands where %s is expected (%s)", e.Path, e.Line, e.Value, e.Expected, e.Rule)
}

// ErrNoElement says that a reader was asked for what is inside an element while none is open. It is a mistake of
// the code that reads, not of the document.
var ErrNoElement = errors.New("xmltext: no element is open: Root comes first, and once")

// Err is the first error: a [*SyntaxError], a [*SchemaError] or [ErrNoElement].
func (r *Reader) Err() error { return r.err }

// inside says that an element is open and nothing went wrong yet.
func (r *Reader) inside() bool {
	if r.err == nil && len(r.stack) == 0 {
		r.err = ErrNoElement
	}
	return r.err == nil
}

func (r *Reader) syntax(code string, at int, format string, args ...any) bool {
	if r.err == nil {
		r.err = &SyntaxError{Code: code, Path: path(r.stack), Line: r.line(at), Message: fmt.Sprintf(format, args...)}
	}
	return false
}

func (r *Reader) limit(name string, most int) bool {
	if r.err == nil {
		r.err = &SyntaxError{
			Code: LimitExceeded, Path: path(r.stack), Line: r.line(r.pos), Limit: name, Most: most,
			Message: fmt.Sprintf("the document exceeds the limit %s of %d", name, most),
		}
	}
	return false
}

// schema reports on the element at a depth of the stack, from 1.
func (r *Reader) schema(rule string, at, depth int, value, expected string) bool {
	if r.err == nil {
		r.err = &SchemaError{Path: path(r.stack[:depth]), Line: r.line(at), Rule: rule, Value: Clip(value), Expected: expected}
	}
	return false
}

func (r *Reader) unexpected(expected string) bool {
	n := len(r.stack)
	return r.schema("cvc-complex-type.2.4.a", r.stack[n-1].start, n-1, "<"+string(r.stack[n-1].raw)+">", expected)
}

// line is the line that an offset is in, counted from 1. Line ends are LF, CR LF and CR (section 2.11).
func (r *Reader) line(at int) int {
	n, text := 1, r.doc[:min(at, len(r.doc))]
	for i, c := range text {
		if c == '\n' || c == '\r' && (i+1 == len(text) || text[i+1] != '\n') {
			n++
		}
	}
	return n
}

// path is the path of the innermost element, such as /Envelope/Body/SetAttributes/Attribute[3]/Name.
func path(stack []element) string {
	var b strings.Builder
	for _, e := range stack {
		b.WriteByte('/')
		b.Write(e.local)
		if e.index > 1 {
			b.WriteString("[" + strconv.Itoa(int(e.index)) + "]")
		}
	}
	return b.String()
}

const mostQuoted = 256

// Clip bounds a value that an error quotes.
func Clip(s string) string {
	if len(s) > mostQuoted {
		return strings.ToValidUTF8(s[:mostQuoted], "") + "…"
	}
	return s
}
