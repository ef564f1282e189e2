package xmltext

import (
	"bytes"
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

// SyntaxError says that a document is not well formed, holds what SOAP forbids, or exceeds a limit. Limit and
// Most are set for the code LimitExceeded.
type SyntaxError struct {
	Code    string
	Line    int
	Message string
	Limit   string
	Most    int
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Message) }

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

// Err is the first error.
func (r *Reader) Err() error { return r.err }

func (r *Reader) syntax(code string, at int, format string, args ...any) bool {
	if r.err == nil {
		r.err = &SyntaxError{Code: code, Line: r.line(at), Message: fmt.Sprintf(format, args...)}
	}
	return false
}

func (r *Reader) limit(name string, most int) bool {
	if r.err == nil {
		r.err = &SyntaxError{Code: LimitExceeded, Line: r.line(r.pos), Limit: name, Most: most, Message: fmt.Sprintf("the document exceeds the limit %s of %d", name, most)}
	}
	return false
}

func (r *Reader) schema(rule string, at, depth int, value, expected string) bool {
	if r.err == nil {
		r.err = &SchemaError{Path: path(r.stack[:depth]), Line: r.line(at), Rule: rule, Value: clip(value), Expected: expected}
	}
	return false
}

func (r *Reader) schemaAt(rule string, v value, text, expected string) {
	stack := append(append([]element(nil), r.stack[:min(v.depth-1, len(r.stack))]...), v.element)
	r.err = &SchemaError{Path: path(stack), Line: r.line(v.element.start), Rule: rule, Value: clip(text), Expected: expected}
}

func (r *Reader) unexpected(expected string) {
	n := len(r.stack)
	r.schema("cvc-complex-type.2.4.a", r.stack[n-1].start, n-1, "<"+string(r.stack[n-1].raw)+">", expected)
}

// Path is the path of the current element.
func (r *Reader) Path() string { return path(r.stack) }

// Line is the line that the reader has come to, counted from 1.
func (r *Reader) Line() int { return r.line(r.pos) }

func (r *Reader) line(at int) int { return 1 + bytes.Count(r.doc[:min(at, len(r.doc))], []byte("\n")) }

func path(stack []element) string {
	var b strings.Builder
	for _, e := range stack {
		b.WriteByte('/')
		b.Write(e.local)
		if e.index > 1 {
			b.WriteString("[" + strconv.Itoa(e.index) + "]")
		}
	}
	return b.String()
}

func clip(s string) string {
	if len(s) > 256 {
		return strings.ToValidUTF8(s[:256], "") + "…"
	}
	return s
}
