package qemu

import (
	"context"
	"fmt"

	"biosv/fault"
	"biosv/generated"
)

// Inventory tells what the machine was made with.
func (m *Machine) Inventory(context.Context) (*generated.SystemInventory, error) {
	v := m.domain.VirtualMachine
	n := uint32(*v.ProcessorCount)
	i := &generated.SystemInventory{
		SystemUuid: m.domain.UUID, HostingMode: "Virtual",
		Processor: []*generated.ProcessorInventory{{Socket: "CPU 0", CoreCount: n, EnabledCoreCount: n, ThreadCount: n}},
		Memory:    []*generated.MemoryInventory{{Locator: "DIMM 0", SizeMiB: uint32(*v.MemoryMiB)}},
		Device:    []*generated.DeviceInventory{{Name: "Serial Console", DeviceClass: "SerialConsole", Detail: "COM1"}},
	}
	for d, image := range v.DiskImage {
		i.Device = append(i.Device, &generated.DeviceInventory{Name: fmt.Sprintf("Disk %d", d), DeviceClass: "Storage", Detail: "virtio-blk, image " + string(*image)})
	}
	if *v.NetworkMode == generated.NetworkModeUser {
		i.Adapter = []*generated.AdapterInventory{{Name: "Network Adapter 1", MacAddress: m.mac()}}
	}
	return i, nil
}

// Thermal has nothing to tell: a virtual machine has no sensors.
func (m *Machine) Thermal(context.Context) (*generated.ThermalReading, error) {
	return nil, fault.Unavailable(fault.NotByThisMachine, 0, "A virtual machine has no sensors of its own; those of the host are at the privileged domain.")
}
