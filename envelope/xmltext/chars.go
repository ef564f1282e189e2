package xmltext

import (
	"encoding/binary"
	"unicode/utf8"
)

// Classes of ASCII characters in names (XML 1.0, productions 4 and 4a; the colon is Namespaces in XML's).
const (
	nameStart = 1 << iota
	nameInside
)

var nameClass = func() (table [utf8.RuneSelf]uint8) {
	for c := range table {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if letter {
			table[c] |= nameStart
		}
		if letter || c >= '0' && c <= '9' || c == '-' || c == '.' {
			table[c] |= nameInside
		}
	}
	return table
}()

// isNameRune follows productions 4 and 4a of XML 1.0, fifth edition, for characters outside ASCII.
func isNameRune(v rune, first bool) bool {
	switch {
	case v >= 0xC0 && v <= 0x2FF && v != 0xD7 && v != 0xF7, v >= 0x370 && v <= 0x1FFF && v != 0x37E, v == 0x200C || v == 0x200D,
		v >= 0x2070 && v <= 0x218F, v >= 0x2C00 && v <= 0x2FEF, v >= 0x3001 && v <= 0xD7FF, v >= 0xF900 && v <= 0xFDCF,
		v >= 0xFDF0 && v <= 0xFFFD, v >= 0x10000 && v <= 0xEFFFF:
		return true
	}
	return !first && (v == 0xB7 || v >= 0x300 && v <= 0x36F || v >= 0x203F && v <= 0x2040)
}

// isName says whether a text is a name without a colon (Namespaces in XML 1.0, production 4).
func isName(text []byte) bool {
	for i, v := range string(text) {
		if v >= utf8.RuneSelf && !isNameRune(v, i == 0) || v < utf8.RuneSelf && (nameClass[v] == 0 || i == 0 && nameClass[v]&nameStart == 0) {
			return false
		}
	}
	return len(text) > 0
}

// isCharacter is production 2 of XML 1.0.
func isCharacter(v rune) bool {
	return v == '\t' || v == '\n' || v == '\r' || v >= 0x20 && v <= 0xD7FF || v >= 0xE000 && v <= 0xFFFD || v >= 0x10000 && v <= 0x10FFFF
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// white are the characters of white space (production 3).
const white = " \t\r\n"

// badCharacter gives the offset of the first character that is not in XML's Char, or not in UTF-8, or -1.
func badCharacter(doc []byte) int {
	for i := 0; i < len(doc); {
		// Eight bytes at once: a byte from 0x20 to 0x7F leaves the top bit clear, both as it is and less 0x20.
		for i+8 <= len(doc) {
			const tops, spaces = 0x8080808080808080, 0x2020202020202020
			v := binary.LittleEndian.Uint64(doc[i:])
			if (v|(v-spaces))&tops != 0 {
				break
			}
			i += 8
		}
		for end := min(i+8, len(doc)); i < end; {
			c := doc[i]
			if c < utf8.RuneSelf {
				if c < 0x20 && c != '\t' && c != '\n' && c != '\r' {
					return i
				}
				i++
				continue
			}
			v, n := utf8.DecodeRune(doc[i:])
			if v == utf8.RuneError && n <= 1 || !isCharacter(v) {
				return i
			}
			i += n
		}
	}
	return -1
}

// isASCII says whether every byte is a character of ASCII.
func isASCII(doc []byte) bool {
	for _, c := range doc {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
