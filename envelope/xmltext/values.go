package xmltext

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"time"
)

// The methods below give the value of the current element, whose type is a built-in of XML Schema Part 2 or a
// restriction of one named typeName, and leave the element. A text that is not in the type's lexical space is an
// error.

// String gives a string as it is.
func (r *Reader) String(typeName string) string {
	if r.err != nil || !r.checkAttributes(typeName) {
		return ""
	}
	return string(r.simple(r.limits.TextBytes))
}

// collapsed gives the text with the white space of its ends taken away (whiteSpace=collapse; the types read
// here have none inside).
func (r *Reader) collapsed(typeName string) []byte {
	if r.err != nil || !r.checkAttributes(typeName) {
		return nil
	}
	return bytes.Trim(r.simple(r.limits.TextBytes), " \t\r\n")
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
	if err != nil || !plainNumber(text) {
		r.lexical(text, "a whole number of "+strconv.Itoa(bits)+" bits")
		return 0
	}
	return v
}

// Uint64 gives an unsigned integer of so many bits (sections 3.3.21 to 3.3.24).
func (r *Reader) Uint64(typeName string, bits int) uint64 {
	text := r.collapsed(typeName)
	digits := text
	if len(text) > 1 && (text[0] == '+' || text[0] == '-') {
		digits = text[1:]
	}
	v, err := strconv.ParseUint(string(digits), 10, bits)
	if err != nil || !plainNumber(text) || text[0] == '-' && v != 0 {
		r.lexical(text, "a whole number from 0 on of "+strconv.Itoa(bits)+" bits")
		return 0
	}
	return v
}

func plainNumber(text []byte) bool { return bytes.IndexByte(text, '_') < 0 && len(text) > 0 }

// Base64 gives binary content (section 3.2.16): white space may stand between the characters. It is bounded by
// the document's size only.
func (r *Reader) Base64(typeName string) []byte {
	if r.err != nil || !r.checkAttributes(typeName) {
		return nil
	}
	text := r.simple(r.limits.Bytes)
	if r.err != nil {
		return nil
	}
	packed := text
	if bytes.IndexAny(text, " \t\r\n") >= 0 {
		packed = make([]byte, 0, len(text))
		for _, c := range text {
			if !isSpace(c) {
				packed = append(packed, c)
			}
		}
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(packed)))
	n, err := base64.StdEncoding.Strict().Decode(out, packed)
	if err != nil {
		r.lexical(text, "base64")
		return nil
	}
	return out[:n]
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
		r.lexical(text, "a time such as 2006-01-02T15:04:05Z")
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
	rest, nanos := s[19:], 0
	if len(rest) > 0 && rest[0] == '.' {
		i := 1
		for scale := 100_000_000; i < len(rest) && rest[i] >= '0' && rest[i] <= '9'; i++ {
			nanos += int(rest[i]-'0') * scale
			scale /= 10
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
	midnight := n[3] == 24 && n[4] == 0 && n[5] == 0 && nanos == 0
	if n[0] < 1 || n[1] < 1 || n[1] > 12 || n[2] < 1 || n[2] > daysIn(n[0], n[1]) || n[3] > 23 && !midnight || n[4] > 59 || n[5] > 59 {
		return t, false, false
	}
	return time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], nanos, time.UTC).Add(-time.Duration(offset) * time.Second), zoned, true
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// Invalid reports that the simple value read last breaks a rule of its type; before any was read, that the
// current element does.
func (r *Reader) Invalid(rule, expected, v string) {
	if r.err != nil {
		return
	}
	if r.value.set {
		r.schemaAt(rule, r.value, v, expected)
		return
	}
	at := 0
	if len(r.stack) > 0 {
		at = r.Start()
	}
	r.schema(rule, at, len(r.stack), v, expected)
}

func (r *Reader) lexical(text []byte, expected string) {
	if r.err == nil {
		r.schemaAt("cvc-datatype-valid.1.2.1", r.value, string(text), expected)
	}
}
