package qemu

import (
	"context"
	"fmt"

	"biosv/generated"
)

// Inventory tells what the machine was made with, as it was set up at its last start.
func (m *Machine) Inventory(context.Context) (*generated.SystemInventory, error) {
	m.mu.Lock()
	s := m.setup
	m.mu.Unlock()
	v := m.domain.VirtualMachine
	n := uint32(*v.ProcessorCount)
	i := &generated.SystemInventory{
		Manufacturer: s["SystemManufacturer"], Model: s["SystemProductName"], SerialNumber: s["SerialNumber"], AssetTag: s["AssetTag"],
		SystemUuid: m.domain.UUID, HostingMode: "Virtual",
		Processor: []*generated.ProcessorInventory{{Socket: "CPU 0", CoreCount: n, EnabledCoreCount: n, ThreadCount: n}},
		Memory:    []*generated.MemoryInventory{{Locator: "DIMM 0", SizeMiB: uint32(*v.MemoryMiB)}},
	}
	if s["SerialConsole"] == "true" {
		i.Device = append(i.Device, &generated.DeviceInventory{Name: "Serial Console", DeviceClass: "SerialConsole", Detail: "COM1"})
	}
	if v.VirtualTpm {
		i.Device = append(i.Device, &generated.DeviceInventory{Name: "TPM", DeviceClass: "SecurityDevice", Detail: "TPM 2.0, in software"})
	}
	for d, image := range v.DiskImage {
		i.Device = append(i.Device, &generated.DeviceInventory{Name: fmt.Sprintf("Disk %d", d), DeviceClass: "Storage", Detail: "virtio-blk, image " + string(*image)})
	}
	if *v.NetworkMode == generated.NetworkModeUser {
		i.Adapter = []*generated.AdapterInventory{{Name: "Network Adapter 1", MacAddress: m.mac()}}
	}
	return i, nil
}
