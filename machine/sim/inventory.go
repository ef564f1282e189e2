package sim

import (
	"context"
	"fmt"
	"strconv"

	"biosv/generated"
)

// What the machine is made of.
const (
	manufacturer    = "BIOS.v"
	model           = "Simulated Server S2"
	firmwareVersion = "1.0.0"
	firmwareDate    = "01/15/2026" // as SMBIOS writes dates

	processors = 2
	cores      = 16 // of a processor

	modules      = 4
	moduleMiB    = 32 * 1024
	memoryMiB    = modules * moduleMiB
	reservedMiB  = 512 // what the firmware keeps for itself
	memoryMTs    = 4800
	mirroredMTs  = 4400
	adapterCount = 2
)

func serialNumber(seed uint32) string { return fmt.Sprintf("SIM%08X", seed) }

// mac gives the address of an adapter: locally administered (IEEE 802, the second bit of the first byte), the
// seed, and the adapter.
func (m *Machine) mac(adapter int) string {
	s := m.domain.Seed
	return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", byte(s>>24), byte(s>>16), byte(s>>8), byte(s), adapter+1)
}

// Inventory shows what the machine consists of, as the firmware set it up at the last start. What is written on
// it and what is put into it can be seen without power; what it runs from cannot.
func (m *Machine) Inventory(context.Context) (*generated.SystemInventory, error) {
	now := m.now()
	s := now.setup
	i := &generated.SystemInventory{
		Manufacturer: manufacturer, Model: model, SerialNumber: serialNumber(m.domain.Seed), SystemUuid: m.domain.UUID,
		AssetTag: s.text("AssetTag"), Location: s.text("Location"), HostingMode: "Simulated",
		Firmware:        &generated.FirmwareInventory{Vendor: manufacturer, FirmwareVersion: firmwareVersion, ReleaseDate: firmwareDate},
		UsableMemoryMiB: usableMemory(s), Device: devices(s),
	}
	for n := range processors {
		i.Processor = append(i.Processor, processor(s, n))
	}
	for n := range modules {
		i.Memory = append(i.Memory, &generated.MemoryInventory{Locator: "DIMM_" + string(rune('A'+n)) + "1", SizeMiB: moduleMiB, SpeedMTs: memorySpeed(s)})
	}
	for n := range adapterCount {
		a := &generated.AdapterInventory{Name: fmt.Sprintf("Network Adapter %d", n+1), MacAddress: m.mac(n), BootCapable: networkBoot(s)}
		if a.BootCapable {
			a.BootProtocol = s.text("NetworkBoot")
		}
		i.Adapter = append(i.Adapter, a)
	}
	for _, o := range tried(s) {
		i.BootOption = append(i.BootOption, &generated.BootOptionInventory{Reference: o.reference, Description: o.description(m, s)})
	}
	if from, ok := bootedFrom(s); ok && now.state == generated.PowerStateOn {
		i.BootedFrom = from.reference
	}
	return i, nil
}

func processor(s setup, n int) *generated.ProcessorInventory {
	enabled := uint32(s.number("EnabledCoresPerProcessor"))
	p := &generated.ProcessorInventory{
		Socket: fmt.Sprintf("CPU%d", n+1), Model: "BIOS.v Simulated Processor 2.40 GHz", CoreCount: cores, EnabledCoreCount: enabled, ThreadCount: enabled,
		Feature: []string{"lm", "nx", "sse4_2", "avx2"},
	}
	if s.is("SimultaneousMultithreading") {
		p.ThreadCount *= 2
		p.Feature = append(p.Feature, "ht")
	}
	if s.is("ProcessorAes") {
		p.Feature = append(p.Feature, "aes")
	}
	if s.text("ProcessorVirtualization") == "Enabled" {
		p.Feature = append(p.Feature, "vmx")
	}
	return p
}

func mirrored(s setup) bool { return s.text("MemoryMode") == "Mirrored" }

func usableMemory(s setup) uint64 {
	if mirrored(s) {
		return memoryMiB/2 - reservedMiB
	}
	return memoryMiB - reservedMiB
}

func memorySpeed(s setup) uint32 {
	if speed, err := strconv.ParseUint(s.text("MemorySpeed"), 10, 32); err == nil {
		return uint32(speed)
	}
	if mirrored(s) {
		return mirroredMTs
	}
	return memoryMTs
}

func devices(s setup) (list []*generated.DeviceInventory) {
	add := func(name, class, detail string) {
		list = append(list, &generated.DeviceInventory{Name: name, DeviceClass: class, Detail: detail})
	}
	add("Storage Controller", "Storage", s.text("StorageMode")+" mode, 1 NVMe drive")
	switch s.text("UsbPorts") {
	case "Enabled":
		add("USB Controller", "Usb", "front and rear ports")
	case "RearOnly":
		add("USB Controller", "Usb", "rear ports")
	}
	if s.is("SecurityDevice") {
		add("Security Device", "SecurityDevice", "TPM 2.0")
	}
	if s.is("SerialConsole") {
		add("Serial Console", "SerialConsole", "COM1, "+s.text("SerialConsoleBaud")+" baud")
	}
	return list
}
