package option

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf16"
)

// texts give nodes as text, by section 10.6.1.6 in the long form. least is how many bytes of data a node has at least;
// one that has fewer is shown as any other of its type is.
var texts = map[kind]struct {
	least int
	text  func(b []byte) string
}{
	pci: {2, func(b []byte) string { return fmt.Sprintf("Pci(0x%X,0x%X)", b[1], b[0]) }},
	0x0103: {20, func(b []byte) string {
		return fmt.Sprintf("MemoryMapped(0x%X,0x%X,0x%X)", u32(b), u64(b[4:]), u64(b[12:]))
	}},
	0x0104:    {16, vendor("VenHw")},
	0x0105:    {4, func(b []byte) string { return fmt.Sprintf("Ctrl(0x%X)", u32(b)) }},
	acpi:      {8, acpiText},
	atapi:     {4, ataText},
	scsi:      {4, func(b []byte) string { return fmt.Sprintf("Scsi(0x%X,0x%X)", u16(b), u16(b[2:])) }},
	usb:       {2, func(b []byte) string { return fmt.Sprintf("USB(0x%X,0x%X)", b[0], b[1]) }},
	vendorMsg: {16, vendor("VenMsg")},
	mac:       {33, macText},
	ipv4:      {15, ipv4Text},
	ipv6:      {56, ipv6Text},
	usbClass: {7, func(b []byte) string {
		return fmt.Sprintf("UsbClass(0x%X,0x%X,0x%X,0x%X,0x%X)", u16(b), u16(b[2:]), b[4], b[5], b[6])
	}},
	usbWWID: {6, func(b []byte) string {
		return fmt.Sprintf("UsbWwid(0x%X,0x%X,0x%X,\"%s\")", u16(b[2:]), u16(b[4:]), u16(b), wide(b[6:]))
	}},
	unit:   {1, func(b []byte) string { return fmt.Sprintf("Unit(0x%X)", b[0]) }},
	sata:   {6, func(b []byte) string { return fmt.Sprintf("Sata(0x%X,0x%X,0x%X)", u16(b), u16(b[2:]), u16(b[4:])) }},
	0x0314: {2, func(b []byte) string { return fmt.Sprintf("Vlan(%d)", u16(b)) }},
	nvme: {12, func(b []byte) string {
		return fmt.Sprintf("NVMe(0x%X,%02X-%02X-%02X-%02X-%02X-%02X-%02X-%02X)", u32(b), b[11], b[10], b[9], b[8], b[7], b[6], b[5], b[4])
	}},
	uri:       {0, func(b []byte) string { return "Uri(" + string(b) + ")" }},
	ufs:       {2, func(b []byte) string { return fmt.Sprintf("UFS(0x%X,0x%X)", b[0], b[1]) }},
	sd:        {1, func(b []byte) string { return fmt.Sprintf("SD(0x%X)", b[0]) }},
	emmc:      {1, func(b []byte) string { return fmt.Sprintf("eMMC(0x%X)", b[0]) }},
	hardDrive: {38, hardDriveText},
	cdrom:     {20, func(b []byte) string { return fmt.Sprintf("CDROM(0x%X,0x%X,0x%X)", u32(b), u64(b[4:]), u64(b[12:])) }},
	0x0403:    {16, vendor("VenMedia")},
	filePath:  {0, wide},
	0x0405:    {16, func(b []byte) string { return "Media(" + guid(b) + ")" }},
	fvFile:    {16, func(b []byte) string { return "FvFile(" + guid(b) + ")" }},
	0x0407:    {16, func(b []byte) string { return "Fv(" + guid(b) + ")" }},
	0x0408:    {20, func(b []byte) string { return fmt.Sprintf("Offset(0x%X,0x%X)", u64(b[4:]), u64(b[12:])) }},
	bbs:       {4, bbsText},
}

// types are what nodes are called that have no text of their own.
var types = map[kind]string{1: "HardwarePath", 2: "AcpiPath", 3: "Msg", 4: "MediaPath", 5: "BbsPath"}

// String gives a node as text.
func (n node) String() string {
	if t, ok := texts[n.kind]; ok && len(n.data) >= t.least {
		return t.text(n.data)
	}
	inner := fmt.Sprint(uint8(n.kind))
	name, ok := types[n.kind>>8]
	if !ok {
		name, inner = "Path", fmt.Sprintf("%d,%s", n.kind>>8, inner)
	}
	if len(n.data) > 0 {
		inner += fmt.Sprintf(",%X", n.data[:min(len(n.data), MostPath)])
	}
	return name + "(" + inner + ")"
}

func u16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// guid gives a GUID as text (appendix A).
func guid(b []byte) string {
	return fmt.Sprintf("%08X-%04X-%04X-%04X-%012X", u32(b), u16(b[4:]), u16(b[6:]), b[8:10], b[10:16])
}

// wide gives CHAR16s as text, up to a NULL, where there is one.
func wide(b []byte) string {
	s, _, ok := text(b)
	if !ok {
		units := make([]uint16, len(b)/2)
		for i := range units {
			units[i] = u16(b[2*i:])
		}
		s = string(utf16.Decode(units))
	}
	return s
}

func vendor(name string) func([]byte) string {
	return func(b []byte) string {
		if len(b) > 16 {
			return fmt.Sprintf("%s(%s,%X)", name, guid(b), b[16:min(len(b), MostPath)])
		}
		return name + "(" + guid(b) + ")"
	}
}

// pnp are the devices of ACPI that have names, by their EISA ids of vendor PNP.
var pnp = map[uint16]string{0x0a03: "PciRoot", 0x0a08: "PcieRoot", 0x0604: "Floppy", 0x0301: "Keyboard", 0x0501: "Serial", 0x0401: "ParallelPort"}

func acpiText(b []byte) string {
	hid, uid := u32(b), u32(b[4:])
	letter := func(shift int) byte { return byte(hid>>shift&0x1f) + 'A' - 1 }
	vendor := string([]byte{letter(10), letter(5), letter(0)})
	if name, ok := pnp[uint16(hid>>16)]; ok && vendor == "PNP" {
		return fmt.Sprintf("%s(0x%X)", name, uid)
	}
	return fmt.Sprintf("Acpi(%s%04X,0x%X)", vendor, hid>>16, uid)
}

func ataText(b []byte) string {
	controller, drive := "Primary", "Master"
	if b[0] == 1 {
		controller = "Secondary"
	}
	if b[1] == 1 {
		drive = "Slave"
	}
	return fmt.Sprintf("Ata(%s,%s,0x%X)", controller, drive, u16(b[2:]))
}

func macText(b []byte) string {
	address, kind := b[:32], b[32]
	if kind <= 1 {
		address = address[:6] // Ethernet
	}
	return fmt.Sprintf("MAC(%X,0x%X)", address, kind)
}

func protocol(p uint16) string {
	switch p {
	case 6:
		return "TCP"
	case 17:
		return "UDP"
	}
	return fmt.Sprintf("0x%X", p)
}

func ipv4Text(b []byte) string {
	address := func(at int) string { return netip.AddrFrom4([4]byte(b[at : at+4])).String() }
	origin := "DHCP"
	if b[14] != 0 {
		origin = "Static"
	}
	s := fmt.Sprintf("IPv4(%s,%s,%s,%s", address(4), protocol(u16(b[12:])), origin, address(0))
	if len(b) >= 23 {
		s += "," + address(15) + "," + address(19)
	}
	return s + ")"
}

func ipv6Text(b []byte) string {
	address := func(at int) string { return netip.AddrFrom16([16]byte(b[at : at+16])).String() }
	origin := fmt.Sprintf("0x%X", b[38])
	if int(b[38]) < len(origins) {
		origin = origins[b[38]]
	}
	return fmt.Sprintf("IPv6(%s,%s,%s,%s,%s,0x%X)", address(16), protocol(u16(b[36:])), origin, address(0), address(40), b[39])
}

var origins = [...]string{"Static", "StatelessAutoConfigure", "StatefulAutoConfigure"}

func hardDriveText(b []byte) string {
	format, signature := fmt.Sprint(b[37]), "0"
	switch b[37] {
	case 1:
		format, signature = "MBR", fmt.Sprintf("0x%08X", u32(b[20:]))
	case 2:
		format, signature = "GPT", guid(b[20:])
	}
	return fmt.Sprintf("HD(%d,%s,%s,0x%X,0x%X)", u32(b), format, signature, u64(b[4:]), u64(b[12:]))
}

// bbsTypes are the device types of the BIOS Boot Specification.
var bbsTypes = map[uint16]string{1: "Floppy", 2: "HD", 3: "CDROM", 4: "PCMCIA", 5: "USB", 6: "Network"}

func bbsText(b []byte) string {
	name, ok := bbsTypes[u16(b)]
	if !ok {
		name = fmt.Sprintf("0x%X", u16(b))
	}
	description, _, _ := strings.Cut(string(b[4:]), "\x00")
	return fmt.Sprintf("BBS(%s,%s,0x%X)", name, description, u16(b[2:]))
}
