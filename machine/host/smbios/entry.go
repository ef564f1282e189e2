package smbios

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// entryPoint is what an entry point says of its table.
type entryPoint struct {
	major, minor byte
	length       int // bytes of the table, at most
	count        int // structures in it; 0 where the entry point does not say
}

// parseEntry reads a 32-bit entry point (section 5.2.1) or a 64-bit one (section 5.2.2).
func parseEntry(b []byte) (entryPoint, error) {
	switch {
	case bytes.HasPrefix(b, []byte("_SM3_")):
		return parseEntry64(b)
	case bytes.HasPrefix(b, []byte("_SM_")):
		return parseEntry32(b)
	}
	return entryPoint{}, errors.New("it begins with neither _SM_ nor _SM3_")
}

func parseEntry32(b []byte) (e entryPoint, err error) {
	const size = 0x1f
	if b, err = checked(b, 5, size); err != nil {
		return e, err
	}
	if !bytes.HasPrefix(b[0x10:], []byte("_DMI_")) || sum(b[0x10:size]) != 0 {
		return e, errors.New("its intermediate part (from byte 16) has not the anchor _DMI_ or not the checksum")
	}
	e = entryPoint{
		major: b[6], minor: b[7],
		length: int(binary.LittleEndian.Uint16(b[0x16:])),
		count:  int(binary.LittleEndian.Uint16(b[0x1c:])),
	}
	if e.count == 0 {
		return e, errors.New("it says that there are no structures")
	}
	return e, nil
}

func parseEntry64(b []byte) (e entryPoint, err error) {
	const size = 0x18
	if b, err = checked(b, 6, size); err != nil {
		return e, err
	}
	length := binary.LittleEndian.Uint32(b[0x0c:])
	return entryPoint{major: b[7], minor: b[8], length: int(min(length, math.MaxInt32))}, nil
}

// checked gives the entry point without what follows it, of the length that it says it has; lengthAt is where it
// says so, and least is what the specification asks for.
func checked(b []byte, lengthAt, least int) ([]byte, error) {
	if len(b) < least {
		return nil, fmt.Errorf("it has %d bytes; %d are needed", len(b), least)
	}
	length := int(b[lengthAt])
	if length < least || length > len(b) {
		return nil, fmt.Errorf("it says that it is %d bytes long; %d to %d can be", length, least, len(b))
	}
	if sum(b[:length]) != 0 {
		return nil, errors.New("its checksum is wrong")
	}
	return b[:length], nil
}

func sum(b []byte) (s byte) {
	for _, c := range b {
		s += c
	}
	return s
}
