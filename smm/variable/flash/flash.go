// Package flash reads and writes what edk2 keeps variables in: the OVMF_VARS.fd of a virtual machine, which is a
// firmware volume with an authenticated variable store, the working block of fault tolerant writes and its spare
// (UEFI PI 1.8, volume 3, section 3.2.1, for the volume; edk2's MdeModulePkg/Include/Guid/VariableFormat.h and
// FaultTolerantWrite.h for the rest, which no specification has). Begin with [Parse] and [Render].
//
// [Parse] reads a store as edk2 would when it starts with it, and says what it left out. A store that edk2 would throw
// away, or read something else of than what stands there, is an error that says where. [Render] writes a new one.
package flash

import (
	"encoding/binary"
	"fmt"

	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
)

// Size is the size of OVMF_VARS_4M.fd in bytes, which [Render] writes.
const Size = 0x84000

// Capacity is how many bytes of variables the store of that size takes, each with its header and to whole words.
const Capacity = storeEnd - volumeHeader - storeHeader

// MaxSize is the most bytes that a file may have which is read.
const MaxSize = 16 << 20

const (
	block         = 0x1000
	volumeHeader  = 0x48
	storeHeader   = 28
	storeEnd      = 0x40000 // where the store of [Render] ends
	variableStart = 0x55AA
)

var (
	systemNvData       = efi.MustGUID("fff12b8d-7696-4c8b-a985-2747075b4f50") // gEfiSystemNvDataFvGuid
	authenticatedStore = efi.MustGUID("aaf32c78-947b-439a-a180-2e144ec37792") // gEfiAuthenticatedVariableGuid
	plainStore         = efi.MustGUID("ddcf3616-3275-4164-98b6-fe85707ffe7d") // gEfiVariableGuid
	workingBlock       = efi.MustGUID("9e58292b-7c68-497d-a0ce-6500fd9f1b95") // gEdkiiWorkingBlockSignatureGuid
	certDatabase       = efi.MustGUID("d9bee56e-75dc-49d9-b4d7-b534210f637a") // gEfiCertDbGuid
)

// Variable is a variable of a store.
type Variable struct {
	services.Key
	services.Variable
	MonotonicCount uint64 // of authentication by counter, which no firmware writes any more
	PublicKeyIndex uint32 // likewise
}

// Store is what a file holds.
type Store struct {
	Variables []Variable // in the file's order
	Notes     []string   // what was left out or looks odd, for people
}

// volume checks the firmware volume's header and gives where the variable store begins.
func volume(b []byte) (int, error) {
	switch {
	case len(b) > MaxSize:
		return 0, fmt.Errorf("the file has %d bytes; %d are allowed", len(b), MaxSize)
	case len(b) < volumeHeader+storeHeader:
		return 0, fmt.Errorf("the file has %d bytes, less than the headers of a variable store", len(b))
	case string(b[40:44]) != "_FVH":
		return 0, fmt.Errorf("at byte 40: no firmware volume begins here (a raw OVMF_VARS file is wanted; qemu-img convert -O raw makes one of a qcow2)")
	case efi.GUID(b[16:32]) != systemNvData:
		return 0, fmt.Errorf("at byte 16: the firmware volume is of %s, and holds no variables", efi.GUID(b[16:32]))
	}
	length, header := binary.LittleEndian.Uint64(b[32:]), int(binary.LittleEndian.Uint16(b[48:]))
	switch {
	case length != uint64(len(b)):
		return 0, fmt.Errorf("at byte 32: the firmware volume has %d bytes, and the file %d: it is truncated or not a variable store alone", length, len(b))
	case header < volumeHeader || header%2 != 0 || header+storeHeader > len(b):
		return 0, fmt.Errorf("at byte 48: the firmware volume's header has %d bytes", header)
	case sum16(b[:header]) != 0:
		return 0, fmt.Errorf("at byte 50: the checksum of the firmware volume's header is wrong")
	case b[55] != 2:
		return 0, fmt.Errorf("at byte 55: the firmware volume's revision is %d, not 2", b[55])
	}
	return header, nil
}

func sum16(b []byte) (sum uint16) {
	for i := 0; i+1 < len(b); i += 2 {
		sum += binary.LittleEndian.Uint16(b[i:])
	}
	return sum
}

// store checks the variable store's header at a place and gives where its variables begin and end.
func store(b []byte, at int) (first, end int, err error) {
	h := b[at:]
	size := binary.LittleEndian.Uint32(h[16:])
	switch {
	case efi.GUID(h[:16]) == plainStore:
		return 0, 0, fmt.Errorf("at byte %d: the variable store is of a firmware without authenticated variables", at)
	case efi.GUID(h[:16]) != authenticatedStore:
		return 0, 0, fmt.Errorf("at byte %d: no variable store begins here", at)
	case h[20] != 0x5A || h[21] != 0xFE:
		return 0, 0, fmt.Errorf("at byte %d: the variable store is not formatted (%#02x) and healthy (%#02x)", at+20, h[20], h[21])
	case size < storeHeader || uint64(at)+uint64(size) > uint64(len(b)):
		return 0, 0, fmt.Errorf("at byte %d: the variable store has %d bytes, and %d are left", at+16, size, len(b)-at)
	}
	return at + storeHeader, at + int(size), nil
}
