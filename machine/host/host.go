// Package host is the machine of the privileged domain: the host that BIOS.v itself runs on. It is read through
// the files in which Linux shows it and never written. Begin with [Open], an smm.Opener.
//
// What is read from where:
//
//	product, firmware, processors, modules   SMBIOS tables, in /sys/firmware/dmi/tables (root alone may read them)
//	the same in part, for anybody            /sys/class/dmi/id, /proc/cpuinfo, /proc/meminfo
//	adapters and other devices               /sys/class, /sys/bus
//	boot options and UEFI variables          efivarfs, in /sys/firmware/efi/efivars
//	sensors and fans                         hwmon, in /sys/class/hwmon
//
// What cannot be read is absent from an answer; nothing is put in its place. Every read is bounded, in the bytes
// of a file and in the entries of a folder. The SMBIOS tables are read once, since they cannot change while the
// host runs; all else is read when it is asked for.
package host

import (
	"context"
	"io/fs"
	"net"
	"os"
	"time"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine/host/smbios"
	"biosv/smm"
)

// Host is the host. Nothing in it changes after [Open], so it is safe for concurrent use; it holds nothing open.
type Host struct {
	root      fs.FS                              // the host's file system
	tables    *smbios.Tables                     // nil where they cannot be read
	permanent func() map[string]net.HardwareAddr // what network adapters were made with, by the names of their interfaces
	now       func() time.Time
}

var _ smm.Machine = (*Host)(nil)

// Open is an [smm.Opener].
func Open(context.Context, smm.Domain, smm.Settings, smm.Supervisor) (smm.Machine, error) {
	return open(os.DirFS("/"), permanentAddresses), nil
}

func open(root fs.FS, permanent func() map[string]net.HardwareAddr) *Host {
	h := &Host{root: root, permanent: permanent, now: time.Now}
	// Tables that are missing, forbidden or damaged are all the same here: nothing is taken from them. `biosv
	// doctor` tells which it is.
	h.tables, _ = ReadTables(root)
	return h
}

// ReadTables reads the SMBIOS tables below the root of a file system.
func ReadTables(root fs.FS) (*smbios.Tables, error) {
	const folder = "sys/firmware/dmi/tables/"
	entry, err := readFile(root, folder+"smbios_entry_point", 256)
	if err != nil {
		return nil, err
	}
	table, err := readFile(root, folder+"DMI", smbios.MaxTable)
	if err != nil {
		return nil, err
	}
	return smbios.Parse(entry, table)
}

// Registry has no attributes: the settings of the host's own firmware cannot be reached from its operating system.
func (h *Host) Registry() generated.GetAttributeRegistryReply {
	return generated.GetAttributeRegistryReply{RegistryId: "BiosVHostAttributeRegistry.v1_0_0"}
}

// Power is On: it is the host itself that answers.
func (h *Host) Power(context.Context) (generated.PowerState, error) {
	return generated.PowerStateOn, nil
}

// Resets are none: BIOS.v does not take away what it stands on.
func (h *Host) Resets() []generated.ResetType { return nil }

// Reset is refused.
func (h *Host) Reset(_ context.Context, how generated.ResetType) error {
	return fault.Unavailable(fault.NotByThisMachine, 0, "BIOS.v runs on this host and does not reset it: %s is for its operating system to do.", how)
}

// Configure is refused: there is nothing to put into force.
func (h *Host) Configure(context.Context, smm.Settings) error {
	return fault.Unavailable(fault.NotByThisMachine, 0, "The settings of this host's own firmware cannot be reached from its operating system.")
}

// Close has nothing to let go of.
func (h *Host) Close() error { return nil }
