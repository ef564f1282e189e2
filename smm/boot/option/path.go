package option

import (
	"encoding/binary"
	"strings"

	"biosv/generated"
)

// path is a device path: its nodes, those of several instances with an end of instance between them.
type path []node

// node is a node of a device path, without its header.
type node struct {
	kind kind
	data []byte
}

// kind is the type of a node in the upper byte, and its sub-type in the lower one (section 10.3.1).
type kind uint16

// The nodes that say what an option starts from, and those that end.
const (
	acpi        kind = 0x0201
	pci         kind = 0x0101
	atapi       kind = 0x0301
	scsi        kind = 0x0302
	usb         kind = 0x0305
	vendorMsg   kind = 0x030a
	mac         kind = 0x030b
	ipv4        kind = 0x030c
	ipv6        kind = 0x030d
	usbClass    kind = 0x030f
	usbWWID     kind = 0x0310
	unit        kind = 0x0311
	sata        kind = 0x0312
	nvme        kind = 0x0317
	uri         kind = 0x0318
	ufs         kind = 0x0319
	sd          kind = 0x031a
	emmc        kind = 0x031d
	hardDrive   kind = 0x0401
	cdrom       kind = 0x0402
	filePath    kind = 0x0404
	fvFile      kind = 0x0406
	bbs         kind = 0x0501
	endInstance kind = 0x7f01
	endPath     kind = 0x7fff
)

// split splits the bytes of a device path into its nodes, up to the end of the first path (section 10.3.1).
func split(b []byte) (p path, ok bool) {
	const header = 4
	for len(b) >= header {
		n := node{kind: kind(b[0])<<8 | kind(b[1])}
		length := int(binary.LittleEndian.Uint16(b[2:]))
		if length < header || length > len(b) {
			return nil, false
		}
		n.data, b = b[header:length], b[length:]
		if n.kind == endPath {
			return p, true
		}
		p = append(p, n)
	}
	return nil, false
}

// String gives the path as text (section 10.6.1).
func (p path) String() string {
	var b strings.Builder
	start := true
	for _, n := range p {
		if b.Len() > 4*MostPath {
			break // nobody sees the rest
		}
		if n.kind == endInstance {
			b.WriteByte(',')
			start = true
			continue
		}
		if !start {
			b.WriteByte('/')
		}
		b.WriteString(n.String())
		start = false
	}
	return b.String()
}

// Files of edk2's firmware volumes.
const (
	shellFile    = "7C04A583-9E3E-4F1C-AD65-E05268D0B4D1"
	setupFile    = "462CAA21-7614-4503-836E-8AB6F4662331" // UiApp
	bootMenuFile = "EEC25BDC-67F2-4D95-B1D5-F81B2039D11D"
)

// targets are those that a node tells by itself, wherever it stands in a path. The first that is there counts.
var targets = []struct {
	kind   kind
	target generated.BootTarget
}{
	{uri, generated.BootTargetUefiHttp}, {mac, generated.BootTargetPxe},
	{usb, generated.BootTargetUsb}, {usbClass, generated.BootTargetUsb}, {usbWWID, generated.BootTargetUsb},
	{cdrom, generated.BootTargetCd}, {hardDrive, generated.BootTargetHdd},
}

// bbsTargets are the device types of the BIOS Boot Specification (section 10.3.5.7).
var bbsTargets = map[uint16]generated.BootTarget{
	2: generated.BootTargetHdd, 3: generated.BootTargetCd, 5: generated.BootTargetUsb, 6: generated.BootTargetPxe,
}

// target says what a path starts from. Of several instances the first counts.
func (p path) target(description string) generated.BootTarget {
	for i, n := range p {
		if n.kind == endInstance {
			p = p[:i]
			break
		}
	}
	for _, t := range targets {
		for _, n := range p {
			if n.kind == t.kind {
				return t.target
			}
		}
	}
	if len(p) == 0 {
		return ""
	}
	switch last := p[len(p)-1]; last.kind {
	case fvFile:
		if len(last.data) != 16 {
			return ""
		}
		switch guid(last.data) {
		case shellFile:
			return generated.BootTargetUefiShell
		case setupFile, bootMenuFile:
			return generated.BootTargetBiosSetup
		}
	case bbs:
		if len(last.data) >= 2 {
			return bbsTargets[binary.LittleEndian.Uint16(last.data)]
		}
	case pci, atapi, scsi, sata, nvme, unit, ufs, sd, emmc, vendorMsg:
		// A drive as a whole: edk2 says in the description alone whether it is an optical one (BmGetBootDescription). A
		// path that ends with its PCI function is that of a virtio block device.
		if optical(description) {
			return generated.BootTargetCd
		}
		return generated.BootTargetHdd
	}
	return ""
}

func optical(description string) bool {
	d := strings.ToUpper(description)
	return strings.Contains(d, "DVD") || strings.Contains(d, "CD-ROM") || strings.Contains(d, "CDROM")
}
