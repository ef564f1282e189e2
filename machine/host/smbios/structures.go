package smbios

import (
	"encoding/hex"
	"math"
)

// Firmware is the platform's firmware (section 7.1, type 0).
type Firmware struct {
	Vendor, Version, ReleaseDate string
	// Virtual is set where the firmware says that its tables describe a virtual machine (section 7.1.2.2, bit 4).
	Virtual bool
}

// Firmware gives the firmware.
func (t *Tables) Firmware() Firmware {
	s := t.first(typeFirmware)
	extension, _ := s.byte(0x13)
	return Firmware{Vendor: s.text(0x04), Version: s.text(0x05), ReleaseDate: s.text(0x08), Virtual: extension&(1<<4) != 0}
}

// System is the machine as a product (section 7.2, type 1).
type System struct {
	Manufacturer, Product, SerialNumber string
	UUID                                string // in its usual form; "" where the firmware has none
}

// System gives the machine as a product.
func (t *Tables) System() System {
	s := t.first(typeSystem)
	return System{Manufacturer: s.text(0x04), Product: s.text(0x05), SerialNumber: s.text(0x07), UUID: t.uuid(s, 0x08)}
}

// uuid reads a UUID (section 7.2.1): all ones mean that there is none, all zeros that none was set, and since
// version 2.6 the first three fields are little-endian.
func (t *Tables) uuid(s structure, at int) string {
	if at+16 > len(s.formatted) {
		return ""
	}
	var u [16]byte
	copy(u[:], s.formatted[at:])
	if u == [16]byte{} || u == [16]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255} {
		return ""
	}
	if t.Major > 2 || t.Major == 2 && t.Minor >= 6 {
		u[0], u[1], u[2], u[3] = u[3], u[2], u[1], u[0]
		u[4], u[5] = u[5], u[4]
		u[6], u[7] = u[7], u[6]
	}
	x := hex.EncodeToString(u[:])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// AssetTag is the asset tag of the machine's enclosure (section 7.4, type 3).
func (t *Tables) AssetTag() string { return t.first(typeEnclosure).text(0x08) }

// Processor is a processor package in a socket (section 7.5, type 4). A count of 0 means that the firmware does
// not say it.
type Processor struct {
	Socket, Version              string
	Cores, EnabledCores, Threads uint32
}

// Processors gives the central processors in the sockets that have one.
func (t *Tables) Processors() (list []Processor) {
	const central, populated = 3, 1 << 6
	for _, s := range t.of(typeProcessor) {
		kind, _ := s.byte(0x05)
		status, ok := s.byte(0x18)
		if kind != central || ok && status&populated == 0 {
			continue
		}
		list = append(list, Processor{
			Socket: s.text(0x04), Version: s.text(0x10),
			Cores: s.count(0x23, 0x2a), EnabledCores: s.count(0x24, 0x2c), Threads: s.count(0x25, 0x2e),
		})
	}
	return list
}

// count reads a count of one byte, and the word that has it where the byte is too small (section 7.5.6 to 7.5.8).
// 0 means unknown; FFFFh is reserved.
func (s structure) count(at, wide int) uint32 {
	n, _ := s.byte(at)
	if n < math.MaxUint8 {
		return uint32(n)
	}
	w, ok := s.word(wide)
	switch {
	case !ok:
		return math.MaxUint8 // before version 3.0 this was a number like any other
	case w == math.MaxUint16:
		return 0
	}
	return uint32(w)
}

// Module is a memory module in a slot (section 7.18, type 17).
type Module struct {
	Locator string
	MiB     uint32
	// MTs is the configured speed in megatransfers a second; 0 where the firmware does not say it.
	MTs uint32
}

// Modules gives the memory modules in the slots that have one of a known size of 1 MiB or more.
func (t *Tables) Modules() (list []Module) {
	for _, s := range t.of(typeMemory) {
		size, ok := s.size()
		if !ok || size == 0 {
			continue
		}
		list = append(list, Module{Locator: s.text(0x10), MiB: size, MTs: s.speed()})
	}
	return list
}

// size reads the size of a memory device in MiB. 0 means an empty slot and FFFFh an unknown size; bit 15 says that
// the unit is KiB; 7FFFh, that the extended size has it in MiB.
func (s structure) size() (uint32, bool) {
	w, ok := s.word(0x0c)
	switch {
	case !ok || w == math.MaxUint16:
		return 0, false
	case w == 0x7fff:
		d, ok := s.dword(0x1c)
		return d &^ (1 << 31), ok
	case w&(1<<15) != 0:
		return uint32(w&^(1<<15)) / 1024, true
	}
	return uint32(w), true
}

// speed reads the configured speed: 0 is unknown, and FFFFh says that the extended one has it.
func (s structure) speed() uint32 {
	w, _ := s.word(0x20)
	if w < math.MaxUint16 {
		return uint32(w)
	}
	d, _ := s.dword(0x58)
	return d &^ (1 << 31)
}
