package flash

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
)

// Render writes a new store of [Size] bytes with these variables, in their order, and with the certdb that their owners
// need. Without variables it is what Debian's OVMF_VARS_4M.fd is, byte for byte. Volatile variables, names without
// characters and more than [Capacity] bytes are errors.
func Render(variables []Variable) ([]byte, error) {
	b := bytes.Repeat([]byte{erased}, Size)
	writeHeaders(b)
	if db, ok := appendOwners(variables); ok {
		variables = append(variables[:len(variables):len(variables)], db)
	}
	at := volumeHeader + storeHeader
	for _, v := range variables {
		if !v.Attributes.Has(efi.NonVolatile) || v.Name == "" {
			return nil, fmt.Errorf("render the variable store: %s with the attributes %s is none that flash keeps", v.Key, v.Attributes)
		}
		if need := int(services.Size(v.Key, v.Variable)); need > storeEnd-at {
			return nil, fmt.Errorf("render the variable store: %s takes %d bytes, and %d of %d are left", v.Key, need, storeEnd-at, Capacity)
		}
		at = writeVariable(b, at, v)
	}
	return b, nil
}

// writeVariable writes a variable at a place and gives the next place.
func writeVariable(b []byte, at int, v Variable) int {
	name := append(efi.EncodeName(v.Name), 0, 0)
	h := b[at:]
	binary.LittleEndian.PutUint16(h, variableStart)
	h[2], h[3] = added, 0
	binary.LittleEndian.PutUint32(h[4:], uint32(v.Attributes))
	binary.LittleEndian.PutUint64(h[8:], v.MonotonicCount)
	copy(h[16:32], v.TimeStamp[:])
	binary.LittleEndian.PutUint32(h[32:], v.PublicKeyIndex)
	binary.LittleEndian.PutUint32(h[36:], uint32(len(name)))
	binary.LittleEndian.PutUint32(h[40:], uint32(len(v.Data)))
	copy(h[44:60], v.Vendor[:])
	copy(h[services.Overhead:], name)
	copy(h[services.Overhead+len(name):], v.Data)
	return at + int(services.Size(v.Key, v.Variable))
}

// writeHeaders writes the headers of the volume, of its one row of blocks, of the store and of the working block.
func writeHeaders(b []byte) {
	clear(b[:volumeHeader+storeHeader])
	copy(b[16:], systemNvData[:])
	binary.LittleEndian.PutUint64(b[32:], Size)
	copy(b[40:], "_FVH")
	binary.LittleEndian.PutUint32(b[44:], 0x0004FEFF) // EFI_FVB2: read, write, erase to ones, aligned
	binary.LittleEndian.PutUint16(b[48:], volumeHeader)
	b[55] = 2 // revision
	binary.LittleEndian.PutUint32(b[56:], Size/block)
	binary.LittleEndian.PutUint32(b[60:], block)
	binary.LittleEndian.PutUint16(b[50:], -sum16(b[:volumeHeader]))

	s := b[volumeHeader:]
	copy(s, authenticatedStore[:])
	binary.LittleEndian.PutUint32(s[16:], storeEnd-volumeHeader)
	s[20], s[21] = 0x5A, 0xFE // formatted, healthy

	w := b[storeEnd+block : storeEnd+block+32]
	copy(w, workingBlock[:])
	binary.LittleEndian.PutUint64(w[24:], block-32)
	binary.LittleEndian.PutUint32(w[16:], crc32.ChecksumIEEE(w))
	w[20] = 0xFE // valid
}
