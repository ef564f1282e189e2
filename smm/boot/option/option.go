// Package option reads boot options as UEFI keeps them: EFI_LOAD_OPTION (UEFI 2.10, section 3.1.3), device paths (chapter
// 10) and their text (section 10.6). Begin with [Parse].
//
// A guest writes its boot options with any bytes that it likes, so everything here is total: what cannot be read is left
// out, and no text is longer than a bound or holds what a terminal or XML would choke on.
package option

import (
	"encoding/binary"
	"unicode"
	"unicode/utf16"

	"biosv/generated"
)

// The most characters that texts have; what is longer ends with an ellipsis.
const (
	MostDescription = 256
	MostPath        = 1024
)

// Attributes of a load option.
const (
	active = 0x1
	hidden = 0x8
)

// Option is a boot option as far as it can be read.
type Option struct {
	Active, Hidden bool
	Description    string
	Path           string               // of what it loads, as text; empty where it is no device path
	Target         generated.BootTarget // what it starts from; empty where that is not known
}

// Parse reads an EFI_LOAD_OPTION: attributes, the length of the paths, a description that ends with a NULL, paths, of
// which the first is that of what is loaded, and data for what is loaded.
func Parse(b []byte) (o Option) {
	const header = 6
	if len(b) < header {
		return o
	}
	attributes, length := binary.LittleEndian.Uint32(b), int(binary.LittleEndian.Uint16(b[4:]))
	description, rest, ok := text(b[header:])
	if !ok {
		return o
	}
	o.Active, o.Hidden, o.Description = attributes&active != 0, attributes&hidden != 0, clean(description, MostDescription)
	if length > len(rest) {
		return o
	}
	path, ok := split(rest[:length])
	if !ok {
		return o
	}
	o.Path, o.Target = clean(path.String(), MostPath), path.target(description)
	return o
}

// text reads CHAR16s up to a NULL, which must be there, and gives what comes behind it.
func text(b []byte) (s string, rest []byte, ok bool) {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			return string(utf16.Decode(units)), b[2:], true
		}
		units = append(units, u)
	}
	return "", nil, false
}

// clean puts a replacement character for each that cannot be shown, and bounds a text.
func clean(s string, most int) string {
	r := []rune(s)
	if len(r) > most {
		r = append(r[:most-1], '…')
	}
	for i, c := range r {
		if !unicode.IsPrint(c) {
			r[i] = unicode.ReplacementChar
		}
	}
	return string(r)
}
