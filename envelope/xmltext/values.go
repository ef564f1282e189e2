package xmltext

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// The methods below give the value of the current element, whose type is a built-in of XML Schema Part 2 or a
// restriction of one named typeName, and leave the element. A text that is not in the type's lexical space is an
// error.

// String gives a string as it is.
func (r *Reader) String(typeName string) string {
	if !r.inside() || !r.checkAttributes(typeName) {
		return ""
	}
	text, _ := r.simple(r.limits.TextBytes)
	return string(text)
}

// collapsed gives the text without the white space of its ends (whiteSpace=collapse; the types read here have none
// inside). The next value may overwrite it.
func (r *Reader) collapsed(typeName string) []byte {
	if !r.inside() || !r.checkAttributes(typeName) {
		return nil
	}
	text, _ := r.simple(r.limits.TextBytes)
	return bytes.Trim(text, white)
}

// Bool gives a boolean (section 3.2.2).
func (r *Reader) Bool(typeName string) bool {
	text := r.collapsed(typeName)
	switch string(text) {
	case "true", "1":
		return true
	case "false", "0":
		return false
	}
	r.lexical(text, "true, false, 1 or 0")
	return false
}

// Int64 gives an integer of so many bits (sections 3.3.16 to 3.3.19).
func (r *Reader) Int64(typeName string, bits int) int64 {
	text := r.collapsed(typeName)
	v, err := strconv.ParseInt(string(text), 10, bits)
	if err != nil {
		r.lexical(text, fmt.Sprintf("a whole number from %d to %d", int64(math.MinInt64)>>(64-bits), int64(math.MaxInt64)>>(64-bits)))
		return 0
	}
	return v
}

// Uint64 gives an unsigned integer of so many bits (sections 3.3.21 to 3.3.24). A sign may stand before it, and
// minus before zero only.
func (r *Reader) Uint64(typeName string, bits int) uint64 {
	text := r.collapsed(typeName)
	digits := text
	if len(text) > 0 && (text[0] == '+' || text[0] == '-') {
		digits = text[1:]
	}
	v, err := strconv.ParseUint(string(digits), 10, bits)
	if err != nil || text[0] == '-' && v != 0 {
		r.lexical(text, fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)>>(64-bits)))
		return 0
	}
	return v
}

// resolve gives the expanded name of a QName.
func resolve(scope []binding, text []byte) (name Name, ok bool) {
	text = bytes.Trim(text, white)
	prefix, local, found := bytes.Cut(text, []byte(":"))
	if !found {
		prefix, local = nil, text
	}
	if !isName(local) || found && !isName(prefix) {
		return Name{}, false
	}
	space, ok := lookup(scope, prefix)
	return Name{string(space), string(local)}, ok
}

// Base64 gives binary content (section 3.2.16): white space may stand between the characters. It is decoded as it is
// read, so that a large value is not in memory more than twice: as written, and decoded.
func (r *Reader) Base64(typeName string) []byte {
	if !r.inside() || !r.checkAttributes(typeName) {
		return nil
	}
	var d decoder
	for r.inText() {
		written, ok := r.written()
		if !ok || !r.bounded() {
			return nil
		}
		if !d.write(written) {
			r.lexical(written, asBase64)
			return nil
		}
	}
	if r.err != nil {
		return nil
	}
	if left := d.packed[:d.n]; !d.flush() {
		r.lexical(left, asBase64)
		return nil
	}
	return d.out
}

const asBase64 = "base64 with its padding"

// written gives the next piece of a binary value. A reference counts as markup: somebody who needs many means harm.
func (r *Reader) written() (text []byte, ok bool) {
	switch r.doc[r.pos] {
	case '&':
		r.text, ok = r.piece(r.text[:0])
		return r.text, ok
	case '<':
		text, ok = r.cdata()
	default:
		text, ok = r.run()
	}
	r.binary += len(text)
	return text, ok
}

// decoder decodes base64 that comes in pieces, with its padding (RFC 4648 section 4).
type decoder struct {
	out    []byte
	packed [1 << 10]byte // whole groups, but for the last
	n      int
	ended  bool // the padding was read
}

func (d *decoder) write(text []byte) bool {
	d.out = slices.Grow(d.out, base64.StdEncoding.DecodedLen(len(text)))
	for _, c := range text {
		if isSpace(c) {
			continue
		}
		if d.n == len(d.packed) && !d.flush() {
			return false
		}
		d.packed[d.n] = c
		d.n++
	}
	return true
}

func (d *decoder) flush() bool {
	if d.n == 0 {
		return true
	}
	most := base64.StdEncoding.DecodedLen(d.n)
	at := len(d.out)
	d.out = slices.Grow(d.out, most)
	n, err := base64.StdEncoding.Strict().Decode(d.out[at:at+most], d.packed[:d.n])
	if err != nil || d.ended {
		return false
	}
	d.out, d.n, d.ended = d.out[:at+n], 0, n < most
	return true
}

// DateTime gives a time and whether it had a zone; without one it is given in UTC (section 3.2.7). Years are 1
// to 9999.
func (r *Reader) DateTime(typeName string) (t time.Time, zoned bool) {
	text := r.collapsed(typeName)
	if r.err != nil {
		return t, false
	}
	t, zoned, ok := parseDateTime(string(text))
	if !ok {
		r.lexical(text, "a time such as 2006-01-02T15:04:05Z, of a year from 0001 to 9999,")
	}
	return t, zoned
}

func parseDateTime(s string) (t time.Time, zoned, ok bool) {
	if len(s) < 19 || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return t, false, false
	}
	var n [6]int
	for i, span := range [6][2]int{{0, 4}, {5, 7}, {8, 10}, {11, 13}, {14, 16}, {17, 19}} {
		for _, c := range []byte(s[span[0]:span[1]]) {
			if c < '0' || c > '9' {
				return t, false, false
			}
			n[i] = n[i]*10 + int(c-'0')
		}
	}
	rest, nanos, fraction := s[19:], 0, false
	if len(rest) > 0 && rest[0] == '.' {
		i := 1
		for scale := 100_000_000; i < len(rest) && rest[i] >= '0' && rest[i] <= '9'; i++ {
			nanos += int(rest[i]-'0') * scale
			scale /= 10
			fraction = fraction || rest[i] != '0'
		}
		if i == 1 {
			return t, false, false
		}
		rest = rest[i:]
	}
	offset := 0
	switch {
	case rest == "":
	case rest == "Z":
		zoned = true
	case len(rest) == 6 && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':':
		h, err1 := strconv.ParseUint(rest[1:3], 10, 8)
		m, err2 := strconv.ParseUint(rest[4:6], 10, 8)
		if err1 != nil || err2 != nil || m > 59 || h > 14 || h == 14 && m > 0 {
			return t, false, false
		}
		offset = int(h)*3600 + int(m)*60
		if rest[0] == '-' {
			offset = -offset
		}
		zoned = true
	default:
		return t, false, false
	}
	midnight := n[3] == 24 && n[4] == 0 && n[5] == 0 && !fraction
	if n[0] < 1 || n[1] < 1 || n[1] > 12 || n[2] < 1 || n[2] > daysIn(n[0], n[1]) || n[3] > 23 && !midnight || n[4] > 59 || n[5] > 59 {
		return t, false, false
	}
	t = time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], nanos, time.UTC).Add(-time.Duration(offset) * time.Second)
	if y := t.Year(); y < 1 || y > 9999 {
		return time.Time{}, false, false
	}
	return t, zoned, true
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// Invalid reports that the simple value read last breaks a rule of its type; where none was read since the last start
// tag, that the current element does.
func (r *Reader) Invalid(rule, expected, v string) {
	depth := r.simpleAt
	if depth == 0 {
		depth = len(r.stack)
	}
	at := 0
	if depth > 0 {
		at = r.stack[:depth][depth-1].start
	}
	r.schema(rule, at, depth, v, expected)
}

func (r *Reader) lexical(text []byte, expected string) {
	if r.err == nil {
		r.Invalid("cvc-datatype-valid.1.2.1", expected, string(text[:min(len(text), mostQuoted+1)]))
	}
}
