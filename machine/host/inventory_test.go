package host

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
)

// noLinks stands for a kernel whose netlink does not tell permanent addresses.
func noLinks() map[string]net.HardwareAddr { return nil }

func captureDir(name string) string { return filepath.Join("testdata", name) }

// tcg are the features of QEMU's processor "max" that an inventory tells of.
var tcg = []string{"lm", "ht", "svm", "npt", "nx", "smep", "smap", "umip", "aes", "pclmulqdq", "rdrand", "avx", "avx2"}

func twoProcessors() []*generated.ProcessorInventory {
	return []*generated.ProcessorInventory{
		{Socket: "CPU 0", Model: "pc-q35-7.2", CoreCount: 2, EnabledCoreCount: 2, ThreadCount: 2, Feature: tcg},
		{Socket: "CPU 1", Model: "pc-q35-7.2", CoreCount: 2, EnabledCoreCount: 2, ThreadCount: 2, Feature: tcg},
	}
}

// captured is what QEMU was told that the machines of testdata consist of, but for what the kernel and the
// firmware's variables take of it, which changes with their versions.
var captured = map[string]generated.SystemInventory{
	"seabios": {
		Manufacturer: "BIOS.v", Model: "Captured Guest", SerialNumber: "CG-0001", SystemUuid: "6b7a3a52-0f5e-4a8c-9d6e-0123456789ab", AssetTag: "Shelf 7",
		HostingMode: "Virtual",
		Firmware:    &generated.FirmwareInventory{Vendor: "SeaBIOS", FirmwareVersion: "1.16.2-debian-1.16.2-1", ReleaseDate: "04/01/2014"},
		Processor:   twoProcessors(),
		Memory:      []*generated.MemoryInventory{{Locator: "DIMM 0", SizeMiB: 512, SpeedMTs: 3200}},
		Device:      []*generated.DeviceInventory{{Name: "ttyS0", DeviceClass: "SerialConsole"}},
	},
	"ovmf": {
		Manufacturer: "BIOS.v", Model: "Captured Guest", SerialNumber: "CG-0001", SystemUuid: "6b7a3a52-0f5e-4a8c-9d6e-0123456789ab", AssetTag: "Shelf 7",
		HostingMode: "Virtual",
		Firmware:    &generated.FirmwareInventory{Vendor: "EFI Development Kit II / OVMF", FirmwareVersion: "0.0.0", ReleaseDate: "02/06/2015"},
		Processor:   twoProcessors(),
		Memory:      []*generated.MemoryInventory{{Locator: "DIMM 0", SizeMiB: 512, SpeedMTs: 3200}},
		Adapter:     []*generated.AdapterInventory{{Name: "eth0", MacAddress: "52:54:00:12:34:56", BootCapable: true, BootProtocol: "PXEv4"}},
		Device: []*generated.DeviceInventory{
			{Name: "nvme0n1", DeviceClass: "Storage", Detail: "QEMU NVMe Ctrl, 64 MiB"},
			{Name: "usb1", DeviceClass: "Usb", Detail: "xHCI Host Controller"},
			{Name: "usb2", DeviceClass: "Usb", Detail: "xHCI Host Controller"},
			{Name: "tpm0", DeviceClass: "SecurityDevice", Detail: "TPM 2.0"},
			{Name: "ttyS0", DeviceClass: "SerialConsole"},
		},
		BootOption: []*generated.BootOptionInventory{ // Boot0000, the firmware's setup, is an application
			{Reference: "Boot0001", Description: "UEFI QEMU NVMe Ctrl N1 1"},
			{Reference: "Boot0002", Description: "UEFI Non-Block Boot Device"},
			{Reference: "Boot0003", Description: "UEFI PXEv4 (MAC:525400123456)"},
			{Reference: "Boot0004", Description: "UEFI PXEv6 (MAC:525400123456)"},
			{Reference: "Boot0005", Description: "UEFI HTTPv4 (MAC:525400123456)"},
			{Reference: "Boot0006", Description: "UEFI HTTPv6 (MAC:525400123456)"},
			{Reference: "Boot0007", Description: "EFI Internal Shell"},
		},
	},
}

// checkCaptured reads the files of a captured machine.
func checkCaptured(t *testing.T, name, dir string) *generated.SystemInventory {
	t.Helper()
	h := open(os.DirFS(dir), noLinks)
	got, err := h.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(captured[name], *got, cmpopts.IgnoreFields(generated.SystemInventory{}, "UsableMemoryMiB", "Variable")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Of 512 MiB, a kernel and its firmware take less than a quarter.
	if got.UsableMemoryMiB < 384 || got.UsableMemoryMiB >= 512 {
		t.Errorf("%d MiB are usable", got.UsableMemoryMiB)
	}
	return got
}

func TestInventoryIsWhatTheMachineWasMadeOf(t *testing.T) {
	t.Parallel()
	for name := range captured {
		t.Run(name, func(t *testing.T) { checkCaptured(t, name, captureDir(name)) })
	}
}

func TestInventoryListsTheVariables(t *testing.T) {
	t.Parallel()
	got := checkCaptured(t, "ovmf", captureDir("ovmf")).Variable
	want := map[string]uint32{"BootOrder": 16, "SecureBoot": 1, "PlatformLang": 3, "Timeout": 2}
	for _, v := range got {
		if size, ok := want[v.Name]; ok && v.VendorGuid == global && v.SizeBytes == size {
			delete(want, v.Name)
		}
	}
	if len(want) > 0 || len(got) != 33 {
		t.Errorf("of %d variables, these are missing: %v", len(got), want)
	}
}

// without is a file system in which some files cannot be read, as another user sees it.
type without struct {
	fs.FS
	prefixes []string
}

func (w without) Open(name string) (fs.File, error) {
	for _, p := range w.prefixes {
		if strings.HasPrefix(name, p) {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
		}
	}
	return w.FS.Open(name)
}

func TestInventoryWithoutRootHasWhatAnybodyMayRead(t *testing.T) {
	t.Parallel()
	root := without{os.DirFS(captureDir("seabios")), []string{"sys/firmware/dmi/tables", "sys/class/dmi/id/product_uuid", "sys/class/dmi/id/product_serial"}}
	got, err := open(root, noLinks).Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := captured["seabios"]
	want.SerialNumber, want.SystemUuid, want.Memory = "", "", nil
	want.Processor = []*generated.ProcessorInventory{
		{Socket: "Package 0", Model: "QEMU TCG CPU version 2.5+", CoreCount: 2, EnabledCoreCount: 2, ThreadCount: 2, Feature: tcg},
		{Socket: "Package 1", Model: "QEMU TCG CPU version 2.5+", CoreCount: 2, EnabledCoreCount: 2, ThreadCount: 2, Feature: tcg},
	}
	if diff := cmp.Diff(want, *got, cmpopts.IgnoreFields(generated.SystemInventory{}, "UsableMemoryMiB", "Variable")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The kernel's copy of the SMBIOS strings says the same as our reading of the tables.
func TestSMBIOSIsReadAsTheKernelReadsIt(t *testing.T) {
	t.Parallel()
	for name := range captured {
		t.Run(name, func(t *testing.T) {
			var both [2]generated.SystemInventory
			for i, hidden := range []string{"sys/class/dmi", "sys/firmware/dmi"} {
				open(without{os.DirFS(captureDir(name)), []string{hidden}}, noLinks).product(&both[i])
			}
			if diff := cmp.Diff(both[1], both[0]); diff != "" {
				t.Errorf("(-kernel +ours):\n%s", diff)
			}
			if both[0].SystemUuid == "" || both[0].Firmware == nil {
				t.Errorf("nothing was compared: %+v", both[0])
			}
		})
	}
}

func TestDamagedTablesAreNotBelieved(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{
		"sys/firmware/dmi/tables/smbios_entry_point": {Data: read(t, "seabios", "sys/firmware/dmi/tables/smbios_entry_point")},
		"sys/firmware/dmi/tables/DMI":                {Data: read(t, "seabios", "sys/firmware/dmi/tables/DMI")[:100]},
		"sys/class/dmi/id/sys_vendor":                {Data: []byte("The kernel's\n")},
	}
	got, err := open(root, noLinks).Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(generated.SystemInventory{Manufacturer: "The kernel's"}, *got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := ReadTables(root); err == nil {
		t.Error("ReadTables does not say that the tables are damaged")
	}
}

func read(t *testing.T, machine, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(captureDir(machine), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestInventoryOfAHostThatShowsNothingIsAFault(t *testing.T) {
	t.Parallel()
	_, err := open(fstest.MapFS{}, noLinks).Inventory(t.Context())
	var f *generated.UnavailableFault
	if !errors.As(err, &f) || f.Code != string(fault.NotOnThisHost) {
		t.Errorf("got %v", err)
	}
}

func TestInventoryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := open(os.DirFS(captureDir("ovmf")), noLinks)
	if _, err := h.Inventory(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Inventory: %v", err)
	}
	if _, err := h.Thermal(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Thermal: %v", err)
	}
}

// files makes a file system of texts.
func files(texts map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range texts {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

func TestHostingModeIsSaidWhereItCanBeKnown(t *testing.T) {
	t.Parallel()
	const metal, guest = "processor : 0\nflags : fpu vmx\n", "processor : 0\nflags : fpu hypervisor\n"
	for _, row := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"no hypervisor bit", map[string]string{"proc/cpuinfo": metal}, "Physical"},
		{"a hypervisor bit", map[string]string{"proc/cpuinfo": guest}, "Virtual"},
		{"a Xen guest", map[string]string{"proc/cpuinfo": guest, "sys/hypervisor/type": "xen\n", "proc/xen/capabilities": ""}, "Virtual"},
		{"Xen's own domain, on metal or not", map[string]string{"proc/cpuinfo": guest, "sys/hypervisor/type": "xen\n", "proc/xen/capabilities": "control_d\n"}, ""},
		{"an Arm machine", map[string]string{"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\n"}, ""},
		{"an Arm guest", map[string]string{"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\n", "proc/device-tree/hypervisor/compatible": "linux,kvm\x00"}, "Virtual"},
		{"nothing to go by", map[string]string{"sys/class/dmi/id/sys_vendor": "x"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := open(files(row.files), noLinks)
			if got := h.hostingMode(h.cpus()); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestProcessorsOfTheKernelAreCountedByPackage(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		files map[string]string
		want  []*generated.ProcessorInventory
	}{
		{"threads of one core", map[string]string{"proc/cpuinfo": "processor : 0\nmodel name : M\nphysical id : 0\ncore id : 0\ncpu cores : 1\nflags : lm vmx\n\nprocessor : 1\nmodel name : M\nphysical id : 0\ncore id : 0\ncpu cores : 1\nflags : vmx aes lm\n"},
			[]*generated.ProcessorInventory{{Socket: "Package 0", Model: "M", CoreCount: 1, EnabledCoreCount: 1, ThreadCount: 2, Feature: []string{"lm", "vmx"}}}},
		{"packages in another order", map[string]string{"proc/cpuinfo": "processor : 0\nphysical id : 3\ncore id : 7\n\nprocessor : 1\nphysical id : 1\ncore id : 7\n\nprocessor : 2\nphysical id : 1\ncore id : 9\n"},
			[]*generated.ProcessorInventory{{Socket: "Package 1", CoreCount: 2, EnabledCoreCount: 2, ThreadCount: 2}, {Socket: "Package 3", CoreCount: 1, EnabledCoreCount: 1, ThreadCount: 1}}},
		{"Arm, whose topology is elsewhere", map[string]string{
			"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd aes\n\nprocessor\t: 1\nFeatures\t: fp asimd aes\n\nHardware\t: board\n",
			"sys/devices/system/cpu/cpu0/topology/physical_package_id": "0\n", "sys/devices/system/cpu/cpu0/topology/core_id": "0\n",
			"sys/devices/system/cpu/cpu1/topology/physical_package_id": "0\n", "sys/devices/system/cpu/cpu1/topology/core_id": "1\n"},
			[]*generated.ProcessorInventory{{Socket: "Package 0", CoreCount: 2, EnabledCoreCount: 2, ThreadCount: 2, Feature: []string{"aes", "asimd"}}}},
		{"a count that is none", map[string]string{"proc/cpuinfo": "processor : 0\nphysical id : 0\ncore id : 0\ncpu cores : -1\n"},
			[]*generated.ProcessorInventory{{Socket: "Package 0", CoreCount: 1, EnabledCoreCount: 1, ThreadCount: 1}}},
		{"no topology", map[string]string{"proc/cpuinfo": "processor : 0\nflags : lm\n"}, nil},
		{"a topology that the kernel does not know", map[string]string{"proc/cpuinfo": "processor : 0\n", "sys/devices/system/cpu/cpu0/topology/physical_package_id": "-1\n", "sys/devices/system/cpu/cpu0/topology/core_id": "0\n"}, nil},
		{"no file", nil, nil},
		{"a file of something else", map[string]string{"proc/cpuinfo": "processor\n:::\n\n\nprocessor : many\n"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := open(files(row.files), noLinks)
			if diff := cmp.Diff(row.want, h.processors(h.cpus())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestUsableMemoryIsAbsentWhereItIsNotSaid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint64{
		"MemTotal:       24684084 kB\nMemFree: 1 kB\n": 24105,
		"MemFree: 2048 kB\n":                           0,
		"MemTotal: 2048\n":                             0,
		"MemTotal: -2048 kB\n":                         0,
	} {
		if got := open(files(map[string]string{"proc/meminfo": text}), noLinks).usableMemory(); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func TestAdaptersHaveTheirPermanentAddress(t *testing.T) {
	t.Parallel()
	root := files(map[string]string{
		"sys/class/net/eth0/type": "1\n", "sys/class/net/eth0/device/uevent": "", "sys/class/net/eth0/address": "52:54:00:00:00:01\n", "sys/class/net/eth0/addr_assign_type": "0\n",
		// Its address was changed, and netlink tells the one before.
		"sys/class/net/eth1/type": "1\n", "sys/class/net/eth1/device/uevent": "", "sys/class/net/eth1/address": "02:00:00:00:00:02\n", "sys/class/net/eth1/addr_assign_type": "3\n",
		// Nothing tells the one before.
		"sys/class/net/eth2/type": "1\n", "sys/class/net/eth2/device/uevent": "", "sys/class/net/eth2/address": "02:00:00:00:00:03\n", "sys/class/net/eth2/addr_assign_type": "3\n",
		// A member of a bond has the bond's.
		"sys/class/net/eth10/type": "1\n", "sys/class/net/eth10/device/uevent": "", "sys/class/net/eth10/address": "52:54:00:00:00:01\n", "sys/class/net/eth10/addr_assign_type": "0\n",
		"sys/class/net/eth10/bonding_slave/perm_hwaddr": "52:54:00:00:00:10\n",
		// No device, no Ethernet, no address.
		"sys/class/net/br0/type": "1\n", "sys/class/net/br0/address": "52:54:00:00:00:01\n", "sys/class/net/br0/addr_assign_type": "0\n",
		"sys/class/net/ib0/type": "32\n", "sys/class/net/ib0/device/uevent": "", "sys/class/net/ib0/address": "00:00:00:00:fe:80\n", "sys/class/net/ib0/addr_assign_type": "0\n",
		"sys/class/net/eth3/type": "1\n", "sys/class/net/eth3/device/uevent": "", "sys/class/net/eth3/address": "00:00:00:00:00:00\n", "sys/class/net/eth3/addr_assign_type": "0\n",
	})
	links := func() map[string]net.HardwareAddr {
		return map[string]net.HardwareAddr{"eth1": {0x52, 0x54, 0, 0, 0, 2}, "eth2": nil, "br0": {1, 2, 3, 4, 5, 6}}
	}
	boot := []bootOption{
		{loadOption: loadOption{MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 2}, Protocol: "HTTP"}},
		{loadOption: loadOption{MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 2}, Protocol: "PXEv4"}},
	}
	want := []*generated.AdapterInventory{
		{Name: "eth0", MacAddress: "52:54:00:00:00:01"},
		{Name: "eth1", MacAddress: "52:54:00:00:00:02", BootCapable: true, BootProtocol: "HTTP"},
		{Name: "eth10", MacAddress: "52:54:00:00:00:10"},
	}
	if diff := cmp.Diff(want, open(root, links).adapters(boot)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The kernel that runs the tests has a loopback interface, and no permanent address for it.
func TestTheKernelTellsPermanentAddresses(t *testing.T) {
	t.Parallel()
	links := permanentAddresses()
	if address, ok := links["lo"]; !ok || len(address) != 0 {
		t.Errorf("got %v", links)
	}
}

func TestDevicesAreThoseWithHardware(t *testing.T) {
	t.Parallel()
	root := files(map[string]string{
		"sys/class/block/sda/size": "2097152\n", "sys/class/block/sda/device/model": "Disk X \n",
		"sys/class/block/sda1/size": "2048\n", "sys/class/block/sda1/partition": "1\n", "sys/class/block/sda1/device/uevent": "",
		"sys/class/block/sr0/size": "0\n", "sys/class/block/sr0/device/model": "DVD\n",
		"sys/class/block/vda/size": "4096\n", "sys/class/block/vda/device/uevent": "",
		"sys/class/block/loop0/size":     "2048\n",
		"sys/class/block/nvme0c0n1/size": "2048\n", "sys/class/block/nvme0c0n1/hidden": "1\n", "sys/class/block/nvme0c0n1/device/uevent": "",
		"sys/bus/usb/devices/usb1/product": "xHCI Host Controller\n", "sys/bus/usb/devices/1-1/product": "Keyboard\n",
		"sys/class/tpm/tpm0/device/uevent": "",
		"sys/class/tty/ttyS0/type":         "4\n", "sys/class/tty/ttyS1/type": "0\n", "sys/class/tty/tty0/dev": "4:0\n",
	})
	want := []*generated.DeviceInventory{
		{Name: "sda", DeviceClass: "Storage", Detail: "Disk X, 1024 MiB"},
		{Name: "sr0", DeviceClass: "Storage", Detail: "DVD"},
		{Name: "vda", DeviceClass: "Storage", Detail: "2 MiB"},
		{Name: "usb1", DeviceClass: "Usb", Detail: "xHCI Host Controller"},
		{Name: "tpm0", DeviceClass: "SecurityDevice"},
		{Name: "ttyS0", DeviceClass: "SerialConsole"},
	}
	if diff := cmp.Diff(want, open(root, noLinks).devices()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFoldersAndFilesThatAreTooLargeAreCut(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{"sys/class/dmi/id/sys_vendor": {Data: make([]byte, maxLine+1)}}
	for i := range maxEntries + 1 {
		root["sys/class/net/x"+string(rune(0x4e00+i))+"/type"] = &fstest.MapFile{Data: []byte("1\n")}
	}
	h := open(root, noLinks)
	if got := len(h.names("sys/class/net")); got != maxEntries {
		t.Errorf("%d entries were read", got)
	}
	if got := h.text("sys/class/dmi/id/sys_vendor"); got != "" {
		t.Errorf("%q was read", got)
	}
}

// variable makes a file of efivarfs: attributes, and data.
func variableFile(data []byte) *fstest.MapFile {
	return &fstest.MapFile{Data: append([]byte{7, 0, 0, 0}, data...)}
}

func words(list ...uint16) (b []byte) {
	for _, w := range list {
		b = binary.LittleEndian.AppendUint16(b, w)
	}
	return b
}

func TestBootOptionsAreThoseThatTheFirmwareTries(t *testing.T) {
	t.Parallel()
	const active, hidden, app = 1, 8, 0x100
	root := fstest.MapFS{}
	set := func(name string, data []byte) { root[efivars+"/"+name+"-"+global] = variableFile(data) }
	set("BootOrder", append(words(0x00ab, 1, 2, 3, 4, 0xffff, 5), 9)) // with half a number at its end
	set("Boot00AB", option(active, "First"))
	set("Boot0001", option(0, "Not active"))
	set("Boot0002", option(active|app, "An application"))
	set("Boot0003", []byte{1, 0, 0})
	set("Boot0005", option(active|hidden, "Last"))
	set("BootCurrent", words(5))
	h := open(root, noLinks)
	var got []string
	for _, o := range h.bootOptions() {
		got = append(got, o.reference+" "+o.Description)
	}
	if diff := cmp.Diff([]string{"Boot00AB First", "Boot0005 Last"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if from := h.bootedFrom(); from != "Boot0005" {
		t.Errorf("booted from %q", from)
	}
	set("BootCurrent", []byte{5})
	if from := h.bootedFrom(); from != "" {
		t.Errorf("half a number gave %q", from)
	}
}

func TestVariablesAreNamedByFilesOfEfivarfs(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{
		efivars + "/A-b-C-" + global:                          variableFile([]byte("123")),
		efivars + "/Empty-" + global:                          variableFile(nil),
		efivars + "/Short-" + global:                          {Data: []byte{7, 0}},
		efivars + "/-" + global:                               variableFile(nil),
		efivars + "/NoGuid":                                   variableFile(nil),
		efivars + "/Bad-8be4df61+93ca-11d2-aa0d-00e098032b8c": variableFile(nil),
	}
	want := []*generated.VariableInventory{{Name: "A-b-C", VendorGuid: global, SizeBytes: 3}, {Name: "Empty", VendorGuid: global}}
	if diff := cmp.Diff(want, open(root, noLinks).variables()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheHostIsReadAndNeverChanged(t *testing.T) {
	t.Parallel()
	m, err := Open(t.Context(), smm.Domain{Name: smm.PrivilegedDomain, Kind: generated.DomainKindPrivileged}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if state, err := m.Power(t.Context()); state != generated.PowerStateOn || err != nil {
		t.Errorf("power is %s, %v", state, err)
	}
	if len(m.Resets()) != 0 || len(m.Registry().Definition) != 0 || m.Registry().RegistryId == "" {
		t.Errorf("resets %v, registry %+v", m.Resets(), m.Registry())
	}
	for name, err := range map[string]error{
		"Reset":     m.Reset(t.Context(), generated.ResetTypeForceRestart),
		"Configure": m.Configure(t.Context(), nil),
	} {
		var f *generated.UnavailableFault
		if !errors.As(err, &f) || f.Code != string(fault.NotByThisMachine) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The machine that runs the tests has a processor and memory.
	i, err := m.Inventory(t.Context())
	if err != nil || i.UsableMemoryMiB == 0 {
		t.Errorf("inventory %+v, %v", i, err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
