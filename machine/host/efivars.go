package host

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"

	"github.com/google/uuid"

	"biosv/generated"
	"biosv/machine/host/smbios"
)

const (
	efivars = "sys/firmware/efi/efivars"

	// global is the vendor GUID of the variables that UEFI itself defines (UEFI 2.10 section 3.3).
	global = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

	maxBootOptions = 256
	maxVariables   = 1024
	maxVariable    = 64 << 10
)

type bootOption struct {
	reference string
	loadOption
}

// variable reads one of UEFI's own variables: efivarfs puts four bytes of attributes before the data.
func (h *Host) variable(name string) ([]byte, bool) {
	const attributes = 4
	b, err := readFile(h.root, efivars+"/"+name+"-"+global, maxVariable)
	if err != nil || len(b) < attributes {
		return nil, false
	}
	return b[attributes:], true
}

// bootOptions are those of BootOrder that the firmware tries by itself (UEFI 2.10 section 3.1): one that is not
// there, is damaged, is not active or is an application, it passes over.
func (h *Host) bootOptions() (list []bootOption) {
	order, _ := h.variable("BootOrder")
	for ; len(order) >= 2 && len(list) < maxBootOptions; order = order[2:] {
		o := bootOption{reference: bootReference(order)}
		b, ok := h.variable(o.reference)
		if !ok {
			continue
		}
		var err error
		if o.loadOption, err = parseLoadOption(b); err == nil && o.tried() {
			list = append(list, o)
		}
	}
	return list
}

// bootedFrom is the option that the present start came by; "" where the firmware does not say.
func (h *Host) bootedFrom() string {
	b, ok := h.variable("BootCurrent")
	if !ok || len(b) != 2 {
		return ""
	}
	return bootReference(b)
}

func bootReference(b []byte) string { return fmt.Sprintf("Boot%04X", binary.LittleEndian.Uint16(b)) }

// variables lists the UEFI variables; efivarfs names a file after the variable and its vendor GUID, and its size
// tells that of the data, so none is read.
func (h *Host) variables() (list []*generated.VariableInventory) {
	const guid, attributes = 36, 4
	for _, file := range h.names(efivars) {
		at := len(file) - guid - 1
		if at < 1 || file[at] != '-' || len(list) == maxVariables {
			continue
		}
		vendor, err := uuid.Parse(file[at+1:])
		if err != nil {
			continue
		}
		info, err := fs.Stat(h.root, efivars+"/"+file)
		if err != nil || info.Size() < attributes || info.Size()-attributes > math.MaxUint32 {
			continue // removed since, or never written
		}
		list = append(list, &generated.VariableInventory{
			Name: smbios.Text(file[:at]), VendorGuid: vendor.String(), SizeBytes: uint32(info.Size() - attributes),
		})
	}
	return list
}
