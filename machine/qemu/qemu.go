// Package qemu is virtual machines under QEMU, with the UEFI firmware OVMF and a thin virtual BIOS in an option ROM, so
// that the variables of firmware and operating system live in BIOS.v. Begin with [New]; a domain's machine comes from
// [Host.Open].
//
// One boot is one process of QEMU: a reset from inside ends it, and the next one is begun with flash that is rendered
// anew. A process outlives biosv, and is found again. Everything that a machine has of its own
// while it runs lies in its run folder, is scratch, and is named relative to it, so that no path is too long for a
// socket:
//
//	variables.fd           the flash that the firmware reads before the thin virtual BIOS comes
//	vbios.rom, vbios       the thin virtual BIOS, and the socket on which it asks
//	qmp                    the socket of QEMU's monitor
//	events.in, events.out  a second monitor that only writes down what happens, also while biosv is away
//	events.told            is there when it was told that the operating system panicked
//	console                the socket of the first serial port
//	pid, log               QEMU's process, and what it complains of
//	tpm                    the socket of the machine's TPM
//
// The folder belongs to biosv and its files to the machine's user, who has broken out of QEMU in the worst case: what is
// read of them is opened by [firmware.Open].
//
// What a machine is doing is asked of QEMU whenever somebody wants to know. What became of a boot that ended is read
// from events.out.
package qemu

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"sync"

	"biosv/generated"
	"biosv/machine/firmware"
	"biosv/smm"
)

// Config is what a [Host] is made of.
type Config struct {
	Folder    string            // of the run folders
	TPMs      string            // folder of the states of machines' TPMs
	Pools     map[string]string // folders of images, by the names of pools
	Program   string            // of QEMU; empty means qemu-system-x86_64 of the search path
	Firmwares []string          // folders of descriptors of firmware builds; nil means DefaultFirmwares
	ROM       []byte            // the thin virtual BIOS
	KVM       string            // the kernel's device; empty means /dev/kvm
	FirstUser int               // of the users that machines have, each its own
	Users     int               // how many there are, and as many again for TPMs; 0 means that machines have the user of biosv
	Variables firmware.Variables
	Door      firmware.Door
	Log       *slog.Logger

	// Sensors gives what the host measures of itself, as far as machines are to show it; nil where that is nothing.
	Sensors func(context.Context) (*generated.ThermalReading, error)
}

// DefaultProgram is QEMU.
const DefaultProgram = "qemu-system-x86_64"

// Host makes machines of this host.
type Host struct {
	Config

	naming  sync.Mutex // held by who gives a user
	probing sync.Mutex
	found   string // the accelerator; empty until the first start
}

// New makes a Host.
func New(c Config) *Host {
	if c.Program == "" {
		c.Program = DefaultProgram
	}
	if c.KVM == "" {
		c.KVM = "/dev/kvm"
	}
	if c.Firmwares == nil {
		c.Firmwares = DefaultFirmwares
	}
	return &Host{Config: c}
}

var _ smm.Opener = (*Host)(nil).Open

// Open gives the machine of a domain. A process of it that runs is found by [Machine.Resume].
func (h *Host) Open(_ context.Context, d smm.Domain, settings smm.Settings, s smm.Supervisor) (smm.Machine, error) {
	if d.VirtualMachine == nil {
		return nil, fmt.Errorf("the domain %s has no definition of a virtual machine", d.Name)
	}
	folder, err := openFolder(filepath.Join(h.Folder, d.Name))
	if err != nil {
		return nil, err
	}
	m := &Machine{host: h, domain: d, supervisor: s, registry: registry(d), folder: folder, log: h.Log.With("domain", d.Name)}
	m.setup = m.everything(settings)
	m.life, m.end = context.WithCancel(context.Background())
	return m, nil
}

// tools finds what a start needs, and says what to install where it is missing.
func (h *Host) tools(v *generated.VirtualMachine) (program string, err error) {
	if program, err = exec.LookPath(h.Program); err != nil {
		return "", fmt.Errorf("%w; install the Debian package qemu-system-x86", err)
	}
	if v.VirtualTpm {
		err = swtpmTools()
	}
	return program, err
}

var (
	_ smm.Firmware = (*Machine)(nil)
	_ smm.Resumer  = (*Machine)(nil)
	_ smm.Keeper   = (*Machine)(nil)
)

// Registry gives the attributes.
func (m *Machine) Registry() generated.GetAttributeRegistryReply { return m.registry }

// VariableStorage is how many bytes of variables the flash takes.
func (m *Machine) VariableStorage() uint64 { return firmware.VariableStorage }

// BootTargets are what the machine can be started from: none where it is given a kernel, which firmware starts in place of
// any boot option.
func (m *Machine) BootTargets() (targets []generated.BootTarget) {
	v := m.domain.VirtualMachine
	if v.KernelImage != nil {
		return nil
	}
	if len(v.DiskImage) > 0 {
		targets = append(targets, generated.BootTargetHdd)
	}
	if *v.NetworkMode == generated.NetworkModeUser {
		targets = append(targets, generated.BootTargetPxe, generated.BootTargetUefiHttp)
	}
	return append(targets, generated.BootTargetUefiShell, generated.BootTargetBiosSetup)
}
