package host

import (
	"cmp"
	"context"
	"reflect"
	"strings"

	"github.com/google/uuid"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine/host/smbios"
)

// What an inventory says of where a machine runs.
const (
	physical = "Physical"
	virtual  = "Virtual"
)

// Inventory reads what the host consists of. It gives UnavailableFault where nothing at all can be read.
func (h *Host) Inventory(ctx context.Context) (*generated.SystemInventory, error) {
	cpus := h.cpus()
	i := &generated.SystemInventory{}
	h.product(i)
	i.HostingMode = h.hostingMode(cpus)
	i.Processor = h.processors(cpus)
	i.UsableMemoryMiB = h.usableMemory()
	i.Memory = h.modules()
	i.Device = h.devices()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	boot := h.bootOptions()
	i.Adapter = h.adapters(boot)
	i.BootedFrom = h.bootedFrom()
	for _, o := range boot {
		i.BootOption = append(i.BootOption, &generated.BootOptionInventory{Reference: o.reference, Description: o.Description})
	}
	i.Variable = h.variables()
	if reflect.ValueOf(*i).IsZero() {
		return nil, fault.Unavailable(fault.NotOnThisHost, 0, "Nothing of what this host consists of can be read: it shows neither SMBIOS tables nor /sys/class/dmi/id, /proc/cpuinfo or /sys/class/net.")
	}
	return i, ctx.Err()
}

// product fills in what names the machine and its firmware. The kernel's copy in /sys/class/dmi/id has the same
// strings; serial number and UUID in it are for root alone.
func (h *Host) product(i *generated.SystemInventory) {
	t := h.tables
	if t == nil {
		t = &smbios.Tables{}
	}
	id := func(name string) string { return h.text("sys/class/dmi/id/" + name) }
	system, firmware := t.System(), t.Firmware()
	i.Manufacturer = cmp.Or(system.Manufacturer, id("sys_vendor"))
	i.Model = cmp.Or(system.Product, id("product_name"))
	i.SerialNumber = cmp.Or(system.SerialNumber, id("product_serial"))
	i.SystemUuid = system.UUID
	if u, err := uuid.Parse(id("product_uuid")); i.SystemUuid == "" && err == nil && u != uuid.Nil && u != uuid.Max {
		i.SystemUuid = u.String()
	}
	i.AssetTag = cmp.Or(t.AssetTag(), id("chassis_asset_tag"))
	f := generated.FirmwareInventory{
		Vendor:          cmp.Or(firmware.Vendor, id("bios_vendor")),
		FirmwareVersion: cmp.Or(firmware.Version, id("bios_version")),
		ReleaseDate:     cmp.Or(firmware.ReleaseDate, id("bios_date")),
	}
	if f != (generated.FirmwareInventory{}) {
		i.Firmware = &f
	}
}

// hostingMode tells a physical host from a virtual one, as far as the host can know: a hypervisor that hides is
// not found. It is "" where nothing tells.
func (h *Host) hostingMode(cpus []cpu) string {
	// Xen's privileged domain is told apart first: it is a guest to the processor, and whether Xen itself runs on
	// metal cannot be seen from inside.
	hypervisor := h.text("sys/hypervisor/type")
	if hypervisor == "xen" && strings.Contains(h.text("proc/xen/capabilities"), "control_d") {
		return ""
	}
	switch {
	case hypervisor != "",
		h.tables != nil && h.tables.Firmware().Virtual,
		h.exists("proc/device-tree/hypervisor"):
		return virtual
	case len(cpus) == 0 || !cpus[0].x86:
		return ""
	case cpus[0].flags["hypervisor"]: // CPUID leaf 1, ECX bit 31, which no processor sets by itself
		return virtual
	}
	return physical
}

// usableMemory reads the memory that the kernel has, in MiB; 0 where it does not say.
func (h *Host) usableMemory() uint64 {
	b, err := readFile(h.root, "proc/meminfo", 64<<10)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			return parseKiB(rest) / 1024
		}
	}
	return 0
}

func (h *Host) modules() (list []*generated.MemoryInventory) {
	if h.tables == nil {
		return nil
	}
	for _, m := range h.tables.Modules() {
		list = append(list, &generated.MemoryInventory{Locator: m.Locator, SizeMiB: m.MiB, SpeedMTs: m.MTs})
	}
	return list
}
