// Command rom makes a PCI option ROM of a UEFI runtime driver:
//
//	rom DRIVER.efi OUT.rom
//
// The driver gets a fixed place for each of its sections, whatever its version needs of it: an operating system that
// was put to sleep with one version and wakes with another has mapped the first one's pages. And nothing is left in it
// that depends on when it was made.
package main

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rom:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("use it as: rom DRIVER.efi OUT.rom")
	}
	driver, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	if driver, err = settle(driver); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	rom, err := wrap(driver)
	if err != nil {
		return err
	}
	return os.WriteFile(args[1], rom, 0o644)
}

const page = 0x1000

// layout is where sections are in memory, behind the page of the headers. To change it in a version is to break
// guests that sleep.
var layout = []struct {
	name  string
	pages uint32
}{{".rdata", 1}, {".data", 1}, {".code", 5}}

// Offsets in the headers (Microsoft, PE Format): of the COFF header behind the signature, and of the optional header
// behind that.
const (
	lfanew             = 0x3c
	coffSections       = 4 + 2
	coffTime           = 4 + 4
	coffSize           = 4 + 20
	optionalCodeSize   = 4
	optionalImageSize  = 56
	optionalCheckSum   = 64
	optionalRelocation = 112 + 8*5
	sectionSize        = 40
	sectionVirtualSize = 8
)

// settle fixes the layout of a driver, and takes out what a linker puts into one that needs no relocation.
func settle(driver []byte) ([]byte, error) {
	file, err := pe.NewFile(bytes.NewReader(driver))
	if err != nil {
		return nil, err
	}
	header, ok := file.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || file.Machine != pe.IMAGE_FILE_MACHINE_AMD64 || header.Subsystem != pe.IMAGE_SUBSYSTEM_EFI_RUNTIME_DRIVER {
		return nil, errors.New("it is no UEFI runtime driver for x86-64")
	}
	if header.SectionAlignment != page {
		return nil, fmt.Errorf("its sections are aligned to %d bytes; pages have %d", header.SectionAlignment, page)
	}
	sections := file.Sections
	if n := len(sections); n == len(layout)+1 && sections[n-1].Name == ".reloc" {
		if err := relocatesNothing(sections[n-1]); err != nil {
			return nil, err
		}
		sections = sections[:n-1]
	}
	if len(sections) != len(layout) {
		return nil, fmt.Errorf("it has %d sections; %d have their place", len(sections), len(layout))
	}
	at := binary.LittleEndian.Uint32(driver[lfanew:])
	optional := driver[at+coffSize:]
	table := optional[file.SizeOfOptionalHeader:]
	address, end := uint32(page), uint32(0)
	for i, s := range sections {
		room := layout[i].pages * page
		if s.Name != layout[i].name || s.VirtualAddress != address {
			return nil, fmt.Errorf("section %s is at %#x; the next is %s, at %#x", s.Name, s.VirtualAddress, layout[i].name, address)
		}
		if s.VirtualSize > room {
			return nil, fmt.Errorf("section %s has %d bytes; it has room for %d", s.Name, s.VirtualSize, room)
		}
		if s.Characteristics&pe.IMAGE_SCN_MEM_EXECUTE != 0 && s.Characteristics&pe.IMAGE_SCN_MEM_WRITE != 0 {
			return nil, fmt.Errorf("section %s can be written and executed", s.Name)
		}
		binary.LittleEndian.PutUint32(table[i*sectionSize+sectionVirtualSize:], room)
		address += room
		end = max(end, s.Offset+s.Size)
	}
	clear(table[len(layout)*sectionSize : len(file.Sections)*sectionSize])
	binary.LittleEndian.PutUint16(driver[at+coffSections:], uint16(len(layout)))
	binary.LittleEndian.PutUint32(driver[at+coffTime:], 0)
	binary.LittleEndian.PutUint32(optional[optionalCodeSize:], layout[len(layout)-1].pages*page)
	binary.LittleEndian.PutUint32(optional[optionalImageSize:], address)
	binary.LittleEndian.PutUint32(optional[optionalCheckSum:], 0)
	clear(optional[optionalRelocation : optionalRelocation+8])
	return driver[:end], nil
}

// relocatesNothing refuses a table with an entry of another kind than padding (IMAGE_REL_BASED_ABSOLUTE).
func relocatesNothing(s *pe.Section) error {
	table, err := s.Data()
	if err != nil {
		return err
	}
	table = table[:min(int(s.VirtualSize), len(table))]
	for len(table) >= 8 {
		size := int(binary.LittleEndian.Uint32(table[4:]))
		if size < 8 || size > len(table) {
			return errors.New("the table of relocations is damaged")
		}
		for entry := table[8:size]; len(entry) >= 2; entry = entry[2:] {
			if kind := binary.LittleEndian.Uint16(entry) >> 12; kind != 0 {
				return fmt.Errorf("there is a relocation (of kind %d): something has an absolute address", kind)
			}
		}
		table = table[size:]
	}
	return nil
}

// The device that carries the ROM where no other does: QEMU's pci-testdev. Firmware does not compare.
const vendor, device = 0x1b36, 0x0005

// unit is what sizes of option ROMs are counted in.
const unit = 512

// wrap puts a driver behind the headers of an option ROM (UEFI 2.10, table 14.10 in section 14.4.2.1, and PCI Firmware
// Specification 3.3, 5.1.2). All bytes together are 0, as the latter wants of other images.
func wrap(driver []byte) ([]byte, error) {
	const (
		structure = 0x1c
		image     = 0x38
	)
	units := (image + len(driver) + 1 + unit - 1) / unit // one byte more, for the sum
	if units > 0x7f {
		return nil, fmt.Errorf("the driver has %d bytes: too many", len(driver))
	}
	le := binary.LittleEndian
	rom := make([]byte, 0, units*unit)
	rom = le.AppendUint16(rom, 0xaa55)
	rom = le.AppendUint16(rom, uint16(units))
	rom = le.AppendUint32(rom, 0x0ef1) // EFI
	rom = le.AppendUint16(rom, pe.IMAGE_SUBSYSTEM_EFI_RUNTIME_DRIVER)
	rom = le.AppendUint16(rom, pe.IMAGE_FILE_MACHINE_AMD64)
	rom = le.AppendUint16(rom, 0) // not compressed
	rom = append(rom, make([]byte, 8)...)
	rom = le.AppendUint16(rom, image)
	rom = le.AppendUint16(rom, structure)
	rom = append(rom, 0, 0) // the structure is aligned to 4 bytes

	rom = append(rom, "PCIR"...)
	rom = le.AppendUint16(rom, vendor)
	rom = le.AppendUint16(rom, device)
	rom = le.AppendUint16(rom, 0) // no list of further devices
	rom = le.AppendUint16(rom, image-structure)
	rom = append(rom, 3, 0, 0, 0) // revision; class code
	rom = le.AppendUint16(rom, uint16(units))
	rom = le.AppendUint16(rom, 1)           // revision of the code: the protocol's version
	rom = append(rom, 3, 0x80)              // UEFI; the last image
	rom = append(rom, make([]byte, 2*3)...) // no size at run time, no configuration utility, no DMTF CLP
	rom = append(rom, driver...)[:cap(rom)] // the rest is zero
	for _, b := range rom[:len(rom)-1] {
		rom[len(rom)-1] -= b
	}
	return rom, nil
}
