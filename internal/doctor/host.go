package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// tpm looks for what would hold the issuing key: a device, or swtpm in its place. One of the two is needed, unless
// serve is told to do without.
func (c *Config) tpm(ctx context.Context) (list []Check) {
	device := Check{Name: "TPM", State: Lacks, Found: "serve is told to use no device"}
	if c.Device != "" {
		device = c.device()
	}
	swtpm := []Check{
		c.program(ctx, "swtpm", "swtpm"),
		c.program(ctx, "swtpm_setup", "swtpm-tools"),
	}
	substitute := swtpm[0].State == OK && swtpm[1].State == OK
	switch {
	case device.State == OK: // nothing else is used
	case c.Swtpm && substitute:
		device.Found += "; swtpm stands in for it, and whoever reads the data folder owns its keys"
	case c.Swtpm:
		for i := range swtpm {
			swtpm[i].Blocks = swtpm[i].State != OK
		}
		device.Remedy = "turn the TPM on in the firmware's setup, or install swtpm and swtpm-tools, or serve --tpm software to do without"
	case c.Device != "":
		device.Blocks = true
	}
	return append([]Check{device}, swtpm...)
}

func (c *Config) device() Check {
	err := c.Open(c.Device)
	switch {
	case err == nil:
		return Check{Name: "TPM", State: OK, Found: c.Device + " can be opened"}
	case errors.Is(err, fs.ErrNotExist):
		return Check{Name: "TPM", State: Lacks, Found: "there is no " + c.Device, Remedy: "turn the TPM on in the firmware's setup"}
	case errors.Is(err, fs.ErrPermission):
		return Check{Name: "TPM", State: Problem, Found: "this user may not open " + c.Device,
			Remedy: "install tpm-udev, add the user to the group tss (usermod -aG tss USER), and log in anew"}
	}
	return Check{Name: "TPM", State: Problem, Found: err.Error(), Remedy: "the kernel's log tells more: dmesg | grep -i tpm"}
}

// program looks for a program, and asks it for its version.
func (c *Config) program(ctx context.Context, name, pkg string) Check {
	out, err := c.Run(ctx, name, "--version")
	if errors.Is(err, exec.ErrNotFound) {
		return Check{Name: name, State: Lacks, Found: "it is not in the PATH", Remedy: "apt install " + pkg}
	}
	for text := range strings.Lines(out) { // swtpm_setup says its version and fails all the same
		if strings.Contains(text, "version") {
			text, _, _ = strings.Cut(text, ", Copyright")
			return Check{Name: name, State: OK, Found: text}
		}
	}
	if err == nil {
		err = errors.New("it does not say its version")
	}
	return Check{Name: name, State: Problem, Found: err.Error(), Remedy: "apt install --reinstall " + pkg}
}

func (c *Config) smbios() Check {
	found, err := c.SMBIOS()
	check := Check{Name: "SMBIOS", State: OK, Found: found}
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		check.State, check.Found = Lacks, "this host shows no tables: the inventory of dom0 has what /proc and /sys/class tell"
	case errors.Is(err, fs.ErrPermission):
		check.State, check.Found = Lacks, "root alone may read the tables: the inventory of dom0 lacks serial number, UUID and memory modules"
	default:
		check.State, check.Found = Problem, err.Error()
		check.Remedy = "the inventory of dom0 does without; a newer firmware may have better tables"
	}
	return check
}

func (c *Config) sensors(ctx context.Context) Check {
	found, err := c.Sensors(ctx)
	if err != nil {
		return Check{Name: "sensors", State: Lacks, Found: "none answers: dom0 has no thermal readings", Remedy: "on a physical host: apt install lm-sensors, then sensors-detect"}
	}
	return Check{Name: "sensors", State: OK, Found: found}
}

func (c *Config) efivarfs() Check {
	const firmware, variables = "sys/firmware/efi", "sys/firmware/efi/efivars"
	check := Check{Name: "UEFI variables", State: Lacks}
	if _, err := fs.Stat(c.Root, firmware); err != nil {
		check.Found = "this host was not started by UEFI, or does not show it: dom0 has no boot options"
		return check
	}
	entries, err := fs.ReadDir(c.Root, variables)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		check.State, check.Found = Problem, err.Error()
	case len(entries) == 0:
		check.Found, check.Remedy = "efivarfs is not mounted", "mount -t efivarfs efivarfs /"+variables
	default:
		check.State, check.Found = OK, fmt.Sprintf("%d in /%s", len(entries), variables)
	}
	return check
}

// ovmf looks for the firmware of virtual machines, which nothing else needs.
func (c *Config) ovmf() Check {
	code, err := c.Firmware()
	if err != nil {
		return Check{Name: "OVMF", State: Lacks, Found: err.Error(), Remedy: "apt install ovmf"}
	}
	return Check{Name: "OVMF", State: OK, Found: code}
}

func (c *Config) kvm() Check {
	const device = "/dev/kvm"
	check := Check{Name: "KVM", State: Lacks}
	err := c.Open(device)
	switch {
	case err == nil:
		check.State, check.Found = OK, device+" can be opened"
	case errors.Is(err, fs.ErrPermission):
		check.Found, check.Remedy = "this user may not open "+device, "add the user to the group kvm (usermod -aG kvm USER), and log in anew"
	default:
		check.Found = "there is no " + device + " that works"
	}
	if err != nil {
		check.Found += ": virtual machines are emulated, which is slow"
	}
	return check
}

// hook looks for what libvirt runs before it starts a machine, where there is a libvirt.
func (c *Config) hook() Check {
	check := Check{Name: "libvirt's hook", State: Lacks, Found: "this host has no libvirt, whose machines could be attached"}
	if !slices.ContainsFunc([]string{"usr/sbin/libvirtd", "usr/sbin/virtqemud"}, func(daemon string) bool {
		_, err := fs.Stat(c.Root, daemon)
		return err == nil
	}) {
		return check
	}
	attached, err := c.Attached(), c.Hook()
	if err == nil {
		return Check{Name: check.Name, State: OK, Found: fmt.Sprintf("libvirt has it; attached are %d machines that this user sees", len(attached))}
	}
	check.Found, check.Remedy = err.Error(), "biosv libvirt-hook --install as root, then restart libvirtd, whose machines go on"
	if errors.Is(err, fs.ErrNotExist) {
		check.Found = "libvirt has none, which attached machines need"
	}
	if !errors.Is(err, fs.ErrNotExist) || len(attached) > 0 {
		check.State = Problem
	}
	if len(attached) > 0 {
		check.Found += "; attached are " + strings.Join(attached, ", ")
	}
	return check
}

// clock looks at the time, which certificates are valid by.
func (c *Config) clock() Check {
	now, synchronized := c.Clock()
	check := Check{Name: "clock", State: OK, Found: now.UTC().Format(time.RFC3339)}
	// The first release came later: a host that says otherwise has lost its time.
	if release := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); now.Before(release) {
		check.State, check.Blocks = Problem, true
		check.Found += " is in the past: nobody would take certificates made now"
		check.Remedy = "set the clock, and keep it right: apt install systemd-timesyncd"
	} else if !synchronized {
		check.State = Problem
		check.Found += ", and the kernel knows of nothing that keeps it right"
		check.Remedy = "certificates are judged by it: apt install systemd-timesyncd"
	}
	return check
}

// openFiles looks at how many connections there can be: each is an open file.
func (c *Config) openFiles() Check {
	const good, least = 8192, 256
	check := Check{Name: "open files", State: OK}
	most, err := c.OpenFiles()
	if err != nil {
		check.State, check.Found = Problem, err.Error()
		return check
	}
	check.Found = fmt.Sprintf("%d at once", most)
	if most < good {
		check.State = Problem
		check.Blocks = most < least
		check.Remedy = fmt.Sprintf("allow %d, for as many connections as the service takes: ulimit -n, or LimitNOFILE= of its unit", good)
	}
	return check
}

// listen looks whether the service's address is free, or the service's own.
func (c *Config) listen(running bool) Check {
	check := Check{Name: "address", State: OK, Found: c.Listen + " is free"}
	l, err := net.Listen("tcp", c.Listen)
	switch {
	case err == nil:
		l.Close()
	case running && errors.Is(err, syscall.EADDRINUSE):
		check.Found = c.Listen + " is in use, as it is while a service runs"
	case errors.Is(err, syscall.EADDRINUSE):
		check.State, check.Blocks = Problem, true
		check.Found, check.Remedy = c.Listen+" is in use by another program", "stop it, or serve --listen HOST:PORT"
	default:
		check.State, check.Blocks = Problem, true
		check.Found, check.Remedy = err.Error(), "serve --listen HOST:PORT, with an address of this host"
	}
	return check
}
