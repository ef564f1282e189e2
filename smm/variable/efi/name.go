package efi

import (
	"encoding/binary"
	"fmt"
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
	for s := name; len(s) > 0; {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			if len(s) >= 3 && s[0] == 0xed && s[1] >= 0xa0 && s[1]&0xc0 == 0x80 && s[2]&0xc0 == 0x80 {
				r, size = rune(s[0]&0x0f)<<12|rune(s[1]&0x3f)<<6|rune(s[2]&0x3f), 3
				b = binary.LittleEndian.AppendUint16(b, uint16(r))
				s = s[size:]
				continue
			}
		}
		for _, u := range utf16.AppendRune(nil, r) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		s = s[size:]
	}
	return b
}
