package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"unicode/utf16"

	"biosv/machine/host/smbios"
)

// loadOption is an EFI_LOAD_OPTION (UEFI 2.10 section 3.1.3).
type loadOption struct {
	Attributes  uint32
	Description string
	// MAC is the network adapter that the option starts from, and Protocol how: PXEv4, PXEv6 or HTTP. Both are
	// absent where it starts from something else.
	MAC      net.HardwareAddr
	Protocol string
}

// tried says whether the firmware tries the option by itself.
func (o *loadOption) tried() bool {
	const active, category = 0x1, 0x1f00 // LOAD_OPTION_ACTIVE, LOAD_OPTION_CATEGORY, whose 0 is to boot
	return o.Attributes&active != 0 && o.Attributes&category == 0
}

// parseLoadOption reads attributes, the length of the device paths, the description in UCS-2 that ends in 0, the
// paths. What follows is the loader's own.
func parseLoadOption(b []byte) (o loadOption, err error) {
	const header = 6
	if len(b) < header {
		return o, fmt.Errorf("load option: it has %d bytes; %d are needed", len(b), header)
	}
	o.Attributes = binary.LittleEndian.Uint32(b)
	paths := int(binary.LittleEndian.Uint16(b[4:]))
	rest := b[header:]
	var description []uint16
	for {
		if len(rest) < 2 {
			return o, errors.New("load option: its description does not end")
		}
		c := binary.LittleEndian.Uint16(rest)
		rest = rest[2:]
		if c == 0 {
			break
		}
		description = append(description, c)
	}
	o.Description = smbios.Text(string(utf16.Decode(description)))
	if paths > len(rest) {
		return o, fmt.Errorf("load option: its device paths are said to have %d bytes, and %d follow", paths, len(rest))
	}
	return o, o.readPath(rest[:paths])
}

// readPath walks the first device path (UEFI 2.10 section 10.3): nodes of type, subtype and length, header
// included. It is the one that the option starts from.
func (o *loadOption) readPath(b []byte) error {
	const (
		header                           = 4
		end, endEntire                   = 0x7f, 0xff
		messaging                        = 3
		subMAC, subIPv4, subIPv6, subURI = 11, 12, 13, 24 // sections 10.3.4.10, .11, .12 and .22
	)
	for at := 0; ; {
		if len(b)-at < header {
			return fmt.Errorf("load option: its device path does not end within %d bytes", len(b))
		}
		length := int(binary.LittleEndian.Uint16(b[at+2:]))
		if length < header || length > len(b)-at {
			return fmt.Errorf("load option: a node at byte %d of its device path says that it is %d bytes long; %d to %d can be", at, length, header, len(b)-at)
		}
		kind, sub, data := b[at], b[at+1], b[at+header:at+length]
		at += length
		switch {
		case kind == end && sub == endEntire:
			return nil
		case kind != messaging:
		case sub == subMAC && len(data) >= 6:
			o.MAC = bytes.Clone(data[:6])
		case sub == subIPv4 && o.MAC != nil:
			o.Protocol = "PXEv4"
		case sub == subIPv6 && o.MAC != nil:
			o.Protocol = "PXEv6"
		case sub == subURI && o.MAC != nil:
			o.Protocol = "HTTP"
		}
	}
}
