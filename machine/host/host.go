// Package host is the machine of the privileged domain: the host that BIOS.v itself runs on, read and never
// written.
package host

import (
	"context"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
)

// Host is the host. It reads files alone, so it is safe for concurrent use and holds nothing open.
type Host struct{}

var _ smm.Machine = (*Host)(nil)

// Open is an [smm.Opener].
func Open(context.Context, smm.Domain, smm.Settings, smm.Supervisor) (smm.Machine, error) {
	return &Host{}, nil
}

// Registry has no attributes: the settings of the host's own firmware cannot be reached from here.
func (h *Host) Registry() generated.GetAttributeRegistryReply {
	return generated.GetAttributeRegistryReply{RegistryId: "BiosVHost.1.0"}
}

// Power is On: whoever asks is answered by the host.
func (h *Host) Power(context.Context) (generated.PowerState, error) {
	return generated.PowerStateOn, nil
}

// Resets are none: BIOS.v does not take its own host away.
func (h *Host) Resets() []generated.ResetType { return nil }

// Reset is refused.
func (h *Host) Reset(_ context.Context, how generated.ResetType) error {
	return fault.Unavailable(fault.NotByThisMachine, 0, "BIOS.v runs on this host and does not reset it (%s); use the host's own operating system.", how)
}

// Configure has nothing to put into force.
func (h *Host) Configure(context.Context, smm.Settings) error {
	return fault.Unavailable(fault.NotByThisMachine, 0, "The host's own firmware has no settings that BIOS.v can change.")
}

// Inventory reads what the host consists of.
func (h *Host) Inventory(context.Context) (*generated.SystemInventory, error) {
	return nil, fault.Unavailable(fault.NotOnThisHost, 0, "Nothing of what this host consists of can be read.")
}

// Thermal reads the host's sensors.
func (h *Host) Thermal(context.Context) (*generated.ThermalReading, error) {
	return nil, fault.Unavailable(fault.NotOnThisHost, 0, "This host shows no sensors in /sys/class/hwmon.")
}

// Close has nothing to let go of.
func (h *Host) Close() error { return nil }
