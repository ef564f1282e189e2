package efi

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// DecodeName gives the text of a name's CHAR16s, which have no NULL here. The specification has names of UCS-2
// characters, and firmware does not look at them: half a surrogate pair, which UTF-8 has no form for, is kept as the
// three bytes that UTF-8 would have for its number, so that every name comes back as it was ([EncodeName]).
func DecodeName(b []byte) (string, error) {
	if len(b)%2 != 0 {
		return "", fmt.Errorf("a name has %d bytes: its characters have two each", len(b))
	}
	name := make([]byte, 0, len(b)/2)
	for len(b) > 0 {
		c := rune(binary.LittleEndian.Uint16(b))
		b = b[2:]
		switch {
		case c == 0:
			return "", fmt.Errorf("a name has a NULL after %q", name)
		case !utf16.IsSurrogate(c):
			name = utf8.AppendRune(name, c)
			continue
		case len(b) > 0:
			if r := utf16.DecodeRune(c, rune(binary.LittleEndian.Uint16(b))); r != utf8.RuneError {
				name = utf8.AppendRune(name, r)
				b = b[2:]
				continue
			}
		}
		name = append(name, 0xe0|byte(c>>12), 0x80|byte(c>>6)&0x3f, 0x80|byte(c)&0x3f)
	}
	return string(name), nil
}

// EncodeName gives the CHAR16s of a name, without the NULL that ends it.
func EncodeName(name string) []byte {
	b := make([]byte, 0, 2*len(name))
	for s := name; s != ""; {
		r, size := character(s)
		if utf16.IsSurrogate(r) {
			b = binary.LittleEndian.AppendUint16(b, uint16(r))
		} else {
			for _, u := range utf16.AppendRune(nil, r) {
				b = binary.LittleEndian.AppendUint16(b, u)
			}
		}
		s = s[size:]
	}
	return b
}

// NameSize is how many bytes [EncodeName] gives.
func NameSize(name string) (n int) {
	for s := name; s != ""; {
		r, size := character(s)
		if n += 2; r > 0xffff {
			n += 2
		}
		s = s[size:]
	}
	return n
}

// character gives the first character of a name, or half a surrogate pair, and how many bytes it has.
func character(name string) (r rune, size int) {
	r, size = utf8.DecodeRuneInString(name)
	if r == utf8.RuneError && size == 1 && len(name) >= 3 && name[0] == 0xed && name[1] >= 0xa0 && name[1]&0xc0 == 0x80 && name[2]&0xc0 == 0x80 {
		return rune(name[0]&0x0f)<<12 | rune(name[1]&0x3f)<<6 | rune(name[2]&0x3f), 3
	}
	return r, size
}

// EscapeName writes a name as XML can hold it: a UTF-16 code unit that it cannot as \uXXXX, and a backslash as two.
func EscapeName(name string) string {
	var b strings.Builder
	for s := name; s != ""; {
		r, size := character(s)
		switch {
		case r < ' ', utf16.IsSurrogate(r), r == 0xfffe, r == 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case r == '\\':
			b.WriteString(`\\`)
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return b.String()
}

// UnescapeName reads what [EscapeName] wrote.
func UnescapeName(text string) (string, error) {
	var units []uint16
	for s := text; s != ""; {
		if s[0] != '\\' {
			r, size := utf8.DecodeRuneInString(s)
			units = utf16.AppendRune(units, r)
			s = s[size:]
			continue
		}
		switch {
		case strings.HasPrefix(s, `\\`):
			units = append(units, '\\')
			s = s[2:]
		case len(s) >= 6 && s[1] == 'u':
			u, err := strconv.ParseUint(s[2:6], 16, 16)
			if err != nil {
				return "", fmt.Errorf("%q in a name is no backslash, u and four hexadecimal digits", s[:6])
			}
			units = append(units, uint16(u))
			s = s[6:]
		default:
			return "", fmt.Errorf("a backslash in a name is written as two, and a code unit as a backslash, u and four hexadecimal digits")
		}
	}
	raw := make([]byte, 0, 2*len(units))
	for _, u := range units {
		raw = append(raw, byte(u), byte(u>>8))
	}
	return DecodeName(raw)
}
