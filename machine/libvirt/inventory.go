package libvirt

import (
	"context"
	"strconv"

	"biosv/generated"
	"biosv/machine"
	"biosv/smm"
)

// registry is the table of the attributes: facts, of when the machine was attached. What a machine is made of is its
// owner's, and changed in libvirt.
func registry(d smm.Domain, original *definition) generated.GetAttributeRegistryReply {
	return generated.GetAttributeRegistryReply{RegistryId: machine.RegistryID("Libvirt", d.UUID), Definition: []*generated.AttributeDefinition{
		machine.SystemUUID("Identification", d.UUID, "The UUID by which libvirt, operating systems and tools know this machine (SMBIOS type 1)."),
		machine.Fact("ProcessorCount", "Processor", "Processors", original.processors(), "How many processors the machine had when it was attached; the inventory tells what it has now."),
		machine.Fact("TotalMemoryMiB", "Memory", "Memory in MiB", original.memory(), "How much memory the machine had when it was attached; the inventory tells what it has now."),
	}}
}

// Inventory tells what libvirt's definition says that the machine has.
func (m *Machine) Inventory(ctx context.Context) (*generated.SystemInventory, error) {
	d, err := m.host.definition(ctx, m.named(), 0)
	if err != nil {
		return nil, m.gone(err)
	}
	n := d.processors()
	i := &generated.SystemInventory{
		Manufacturer: "QEMU", Model: attribute(d.child("os", "type"), "machine"), SystemUuid: m.domain.UUID, HostingMode: "Virtual",
		Processor: []*generated.ProcessorInventory{{Socket: "CPU 0", CoreCount: n, EnabledCoreCount: n, ThreadCount: n}},
		Memory:    []*generated.MemoryInventory{{Locator: "DIMM 0", SizeMiB: d.memory()}},
	}
	for _, disk := range d.devices("disk") {
		t := below(disk, "target")
		i.Device = append(i.Device, &generated.DeviceInventory{Name: "Disk " + attribute(t, "dev"), DeviceClass: "Storage", Detail: attribute(t, "bus")})
	}
	for k, mac := range d.addresses() {
		i.Adapter = append(i.Adapter, &generated.AdapterInventory{Name: "Network Adapter " + strconv.Itoa(k+1), MacAddress: mac})
	}
	return i, nil
}
