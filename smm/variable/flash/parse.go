package flash

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
)

// The states of a variable, each of which takes a bit away from erased flash. A change writes the new value
// (headerValid, then added) after it marked the old one inDeletedTransition, and then marks that one deleted.
const (
	erased              = 0xFF
	headerValid         = 0x7F
	added               = 0x3F
	inDeletedTransition = 0xFE
)

// Parse reads a store. A variable that was being changed when the power went is there with its old value, where the
// new one was not written to its end, and with the new one otherwise: what edk2 takes. What private authenticated
// variables keep of their makers comes from edk2's certdb, which is itself left out.
func Parse(b []byte) (*Store, error) {
	s, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("read the variable store: %w", err)
	}
	return s, nil
}

func parse(b []byte) (*Store, error) {
	at, err := volume(b)
	if err != nil {
		return nil, err
	}
	first, end, err := store(b, at)
	if err != nil {
		return nil, err
	}
	if err := checkWrites(b, end+block); err != nil {
		return nil, err
	}
	s := &Store{}
	index := map[services.Key]int{}
	old := map[services.Key]bool{}
	for at = first; ; {
		v, state, next, err := variable(b[:end], at)
		if err != nil {
			return nil, fmt.Errorf("the variable at byte %d: %w", at, err)
		}
		if next == 0 {
			break
		}
		was, there := index[v.Key]
		switch transition := state == added&inDeletedTransition; {
		case state == headerValid:
			s.note("%s at byte %d was never written to its end", v.Key, at)
		case state != added && !transition:
			// deleted
		case !there:
			index[v.Key], old[v.Key] = len(s.Variables), transition
			s.Variables = append(s.Variables, v)
		case old[v.Key]: // edk2's FindVariableEx takes the first that is added, else the last that is in transition
			s.Variables[was], old[v.Key] = v, transition
		case !transition:
			s.note("%s is there twice; the one at byte %d is left out", v.Key, at)
		}
		at = next
	}
	for i := at; i < end; i++ {
		if b[i] != erased {
			s.note("at byte %d begins something that is no variable: what comes after it is left out", at)
			break
		}
	}
	s.takeOwners()
	return s, nil
}

func (s *Store) note(format string, args ...any) {
	const most = 100
	if len(s.Notes) < most {
		s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
	}
}

// variable reads one AUTHENTICATED_VARIABLE_HEADER with name and data; next is 0 where none begins.
func variable(b []byte, at int) (v Variable, state byte, next int, err error) {
	if at+2 > len(b) || binary.LittleEndian.Uint16(b[at:]) != variableStart {
		return v, 0, 0, nil
	}
	if at+services.Overhead > len(b) {
		return v, 0, 0, fmt.Errorf("its header goes beyond the end of the store")
	}
	h := b[at:]
	state = h[2]
	name, data := binary.LittleEndian.Uint32(h[36:]), binary.LittleEndian.Uint32(h[40:])
	if none := ^uint32(0); state == erased || name == none || data == none || binary.LittleEndian.Uint32(h[4:]) == none {
		// The power went while its header was written: edk2 takes it for a header alone (NameSizeOfVariable).
		return v, erased, at + services.Overhead, nil
	}
	rest := uint64(len(h) - services.Overhead)
	if uint64(name)+uint64(data) > rest {
		return v, 0, 0, fmt.Errorf("its name has %d bytes and its data %d, and %d are left", name, data, rest)
	}
	raw := h[services.Overhead:][:name]
	if name < 4 || raw[name-2] != 0 || raw[name-1] != 0 {
		return v, 0, 0, fmt.Errorf("its name of %d bytes is empty or does not end", name)
	}
	v.Vendor = efi.GUID(h[44:60])
	if v.Name, err = efi.DecodeName(raw[:name-2]); err != nil {
		return v, 0, 0, err
	}
	v.Attributes = efi.Attributes(binary.LittleEndian.Uint32(h[4:]))
	v.MonotonicCount = binary.LittleEndian.Uint64(h[8:])
	v.TimeStamp = efi.Time(h[16:32])
	v.PublicKeyIndex = binary.LittleEndian.Uint32(h[32:])
	v.Data = append([]byte{}, h[services.Overhead+name:][:data]...)
	return v, state, at + (services.Overhead+int(name)+int(data)+3)&^3, nil
}

// checkWrites looks at the working block of fault tolerant writes: where one was under way when the power went, and
// its new content is whole in the spare, firmware finishes it at its next start, before it reads a variable.
func checkWrites(b []byte, at int) error {
	const header, write, record = 32, 40, 40
	if at+block > len(b) {
		return nil
	}
	w := b[at : at+block]
	if efi.GUID(w[:16]) != workingBlock || w[20]&1 != 0 || !validWorkingBlock(w[:header]) {
		return nil // edk2 makes it anew
	}
	for i := header; i+write <= len(w); {
		state := w[i]
		if state&1 != 0 {
			return nil // not allocated: there is no further write
		}
		n, private := binary.LittleEndian.Uint64(w[i+24:]), binary.LittleEndian.Uint64(w[i+32:])
		if n > block || private > block {
			return nil
		}
		total := write + int(n)*(record+int(private))
		if state&4 != 0 { // not complete
			for r := i + write; r+record <= min(i+total, len(w)); r += record + int(private) {
				if w[r]&2 == 0 && w[r]&4 != 0 {
					return fmt.Errorf("at byte %d: a write was interrupted, and what it was to write lies in the spare blocks: start the machine once with this file, so that its firmware finishes it", at+r)
				}
			}
			return nil
		}
		i += total
	}
	return nil
}

// validWorkingBlock checks the CRC of a working block's header, which is over its fields but checksum and state.
func validWorkingBlock(h []byte) bool {
	c := append([]byte{}, h...)
	sum := binary.LittleEndian.Uint32(c[16:])
	for i := 16; i < 24; i++ {
		c[i] = erased
	}
	return crc32.ChecksumIEEE(c) == sum
}
