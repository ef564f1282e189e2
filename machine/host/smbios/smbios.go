// Package smbios reads the tables in which a machine's firmware says what the machine consists of (SMBIOS, DMTF
// DSP0134 version 3.7). Begin with [Parse], which takes the bytes as Linux shows them in
// /sys/firmware/dmi/tables, and follow it to the structures of a type.
//
// The tables are foreign bytes: every offset is checked against the structure's own length and the table's. A
// table that is damaged anywhere gives an error and no structures, since nothing says where its truth would end.
// What a firmware leaves out, or marks as unknown, is absent here and never a zero.
package smbios

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The most that is taken of a machine. Large servers stay under a tenth of both.
const (
	MaxTable      = 1 << 20
	maxStructures = 1 << 14
)

// Types of structures (section 7).
const (
	typeFirmware   = 0
	typeSystem     = 1
	typeEnclosure  = 3
	typeProcessor  = 4
	typeMemory     = 17
	typeEndOfTable = 127
)

// Tables are the structures of one machine, in the order of its firmware.
type Tables struct {
	Major, Minor byte
	structures   []structure
}

// Parse reads an entry point (section 5.2) and the table that it leads to.
func Parse(entry, table []byte) (*Tables, error) {
	e, err := parseEntry(entry)
	if err != nil {
		return nil, fmt.Errorf("SMBIOS entry point: %w", err)
	}
	if len(table) > MaxTable {
		return nil, fmt.Errorf("SMBIOS table: it has %d bytes; at most %d are read", len(table), MaxTable)
	}
	if len(table) > e.length {
		return nil, fmt.Errorf("SMBIOS table: it has %d bytes, and its entry point allows %d", len(table), e.length)
	}
	t := &Tables{Major: e.major, Minor: e.minor}
	if t.structures, err = parseTable(table, e); err != nil {
		return nil, fmt.Errorf("SMBIOS table: %w", err)
	}
	return t, nil
}

// Version is the version of the specification that the firmware follows, such as 3.0.
func (t *Tables) Version() string { return fmt.Sprintf("%d.%d", t.Major, t.Minor) }

// Len is the number of structures.
func (t *Tables) Len() int { return len(t.structures) }

// structure is one structure: its formatted area, header included, and its strings.
type structure struct {
	kind      byte
	formatted []byte
	strings   []string
}

// parseTable walks the structures (section 6.1): a header of type, length and handle, the rest of the formatted
// area, then strings that end in 0, the last one followed by another 0.
func parseTable(table []byte, e entryPoint) (list []structure, err error) {
	const header = 4
	rest := table
	for len(rest) > 0 {
		if e.count > 0 && len(list) == e.count {
			return list, nil
		}
		at := len(table) - len(rest)
		if len(list) == maxStructures {
			return nil, fmt.Errorf("it has more than %d structures", maxStructures)
		}
		if len(rest) < header {
			return nil, fmt.Errorf("byte %d: %d bytes are left, and a structure has %d at least", at, len(rest), header)
		}
		length := int(rest[1])
		if length < header || length > len(rest) {
			return nil, fmt.Errorf("byte %d: a structure of type %d says that it is %d bytes long; %d to %d can be", at, rest[0], length, header, len(rest))
		}
		s := structure{kind: rest[0], formatted: rest[:length]}
		// A structure without strings ends in two zeros; one with strings, in the 0 of its last and one more.
		end := bytes.Index(rest[length:], []byte{0, 0})
		if end < 0 {
			return nil, fmt.Errorf("byte %d: the strings of a structure of type %d do not end", at, s.kind)
		}
		if end > 0 {
			s.strings = strings.Split(string(rest[length:length+end]), "\x00")
		}
		list = append(list, s)
		rest = rest[length+end+2:]
		if s.kind == typeEndOfTable && e.count == 0 {
			return list, nil // a table of the 64-bit entry point has no count, and its length is a most
		}
	}
	return list, nil
}

// of gives the structures of a type.
func (t *Tables) of(kind byte) (list []structure) {
	for _, s := range t.structures {
		if s.kind == kind {
			list = append(list, s)
		}
	}
	return list
}

// first gives the first structure of a type, or one that has nothing.
func (t *Tables) first(kind byte) structure {
	if list := t.of(kind); len(list) > 0 {
		return list[0]
	}
	return structure{kind: kind}
}

// The fields of a structure, by offset. Later versions of the specification made structures longer: a field
// beyond a structure's end is not there.

func (s structure) byte(at int) (byte, bool) {
	if at >= len(s.formatted) {
		return 0, false
	}
	return s.formatted[at], true
}

func (s structure) word(at int) (uint16, bool) {
	if at+2 > len(s.formatted) {
		return 0, false
	}
	return binary.LittleEndian.Uint16(s.formatted[at:]), true
}

func (s structure) dword(at int) (uint32, bool) {
	if at+4 > len(s.formatted) {
		return 0, false
	}
	return binary.LittleEndian.Uint32(s.formatted[at:]), true
}

const maxText = 256

// text gives the string whose number stands at an offset, 1 being the first (section 6.1.3), or "" where there
// is none. Firmwares pad with blanks, and some leave bytes in it that are not text: those do not come through.
func (s structure) text(at int) string {
	n, ok := s.byte(at)
	if !ok || n == 0 || int(n) > len(s.strings) {
		return ""
	}
	return Text(s.strings[n-1])
}

// Text makes of a firmware's string what may stand in an answer: printable, without blanks around it, of at most
// 256 bytes.
func Text(raw string) string {
	clean := strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, raw))
	if len(clean) <= maxText {
		return clean
	}
	cut := maxText
	for !utf8.RuneStart(clean[cut]) {
		cut--
	}
	return clean[:cut]
}
