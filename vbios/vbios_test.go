package vbios_test

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"testing"

	"biosv/vbios"
)

// header is that of an option ROM (UEFI 2.10, 14.4.2.1).
type header struct {
	Signature       uint16
	Units           uint16
	EFISignature    uint32
	Subsystem       uint16
	Machine         uint16
	CompressionType uint16
	Reserved        [8]byte
	ImageOffset     uint16
	StructureOffset uint16
}

// structure is the PCI Data Structure (PCI Firmware Specification 3.3, 5.1.2).
type structure struct {
	Signature      [4]byte
	Vendor, Device uint16
	DeviceList     uint16
	Length         uint16
	Revision       byte
	Class          [3]byte
	Units          uint16
	CodeRevision   uint16
	CodeType       byte
	Indicator      byte
	RuntimeUnits   uint16
	Utility, DMTF  uint16
}

func headers(t *testing.T) (h header, s structure) {
	t.Helper()
	if _, err := binary.Decode(vbios.ROM, binary.LittleEndian, &h); err != nil {
		t.Fatal(err)
	}
	if _, err := binary.Decode(vbios.ROM[h.StructureOffset:], binary.LittleEndian, &s); err != nil {
		t.Fatal(err)
	}
	return h, s
}

func TestTheROMHasTheHeadersThatFirmwareLooksFor(t *testing.T) {
	t.Parallel()
	h, s := headers(t)
	units := uint16(len(vbios.ROM) / 512)
	want := header{0xaa55, units, 0x0ef1, 12, 0x8664, 0, [8]byte{}, h.ImageOffset, h.StructureOffset}
	if h != want || h.StructureOffset%4 != 0 || len(vbios.ROM)%512 != 0 {
		t.Errorf("of %d bytes, the header is %+v; want %+v", len(vbios.ROM), h, want)
	}
	if want := (structure{Signature: [4]byte([]byte("PCIR")), Vendor: 0x1b36, Device: 5, Length: 28, Revision: 3, Units: units, CodeRevision: 1, CodeType: 3, Indicator: 0x80}); s != want {
		t.Errorf("the structure is %+v; want %+v", s, want)
	}
	var sum byte
	for _, b := range vbios.ROM {
		sum += b
	}
	if sum != 0 {
		t.Errorf("the bytes' sum is %d", sum)
	}
	if len(vbios.ROM) > 16<<10 {
		t.Errorf("it has %d bytes", len(vbios.ROM))
	}
}

// What is tested here is what a guest that sleeps relies on: to change it is to break its waking up.
func TestTheDriverKeepsItsPlaces(t *testing.T) {
	t.Parallel()
	h, _ := headers(t)
	driver, err := pe.NewFile(bytes.NewReader(vbios.ROM[h.ImageOffset:]))
	if err != nil {
		t.Fatal(err)
	}
	optional, ok := driver.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		t.Fatal("it is not for 64 bits")
	}
	if optional.SizeOfImage != 8<<12 || optional.SectionAlignment != 1<<12 {
		t.Errorf("the image has %#x bytes, in sections aligned to %#x", optional.SizeOfImage, optional.SectionAlignment)
	}
	if driver.TimeDateStamp != 0 || optional.CheckSum != 0 || optional.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_BASERELOC].Size != 0 || optional.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_DEBUG].Size != 0 {
		t.Error("it has a time, a checksum, relocations or a debug directory")
	}
	want := []struct {
		name          string
		address, size uint32
		may           uint32
	}{
		{".rdata", 1 << 12, 1 << 12, pe.IMAGE_SCN_MEM_READ},
		{".data", 2 << 12, 1 << 12, pe.IMAGE_SCN_MEM_READ | pe.IMAGE_SCN_MEM_WRITE},
		{".code", 3 << 12, 5 << 12, pe.IMAGE_SCN_MEM_READ | pe.IMAGE_SCN_MEM_EXECUTE},
	}
	if len(driver.Sections) != len(want) {
		t.Fatalf("it has %d sections", len(driver.Sections))
	}
	const may = pe.IMAGE_SCN_MEM_READ | pe.IMAGE_SCN_MEM_WRITE | pe.IMAGE_SCN_MEM_EXECUTE
	for i, w := range want {
		s := driver.Sections[i]
		if s.Name != w.name || s.VirtualAddress != w.address || s.VirtualSize != w.size || s.Characteristics&may != w.may {
			t.Errorf("section %d is %s at %#x, of %#x bytes, with %#x; want %+v", i, s.Name, s.VirtualAddress, s.VirtualSize, s.Characteristics, w)
		}
	}
}
