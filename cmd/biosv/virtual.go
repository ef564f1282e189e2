package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"biosv/generated"
	"biosv/machine/firmware"
	"biosv/machine/host"
	"biosv/machine/qemu"
	"biosv/security"
	"biosv/service/uefi"
	"biosv/service/uefi/frame"
	"biosv/smm"
	"biosv/smm/domain"
	"biosv/vbios"
)

// virtualMachines makes the host of the virtual machines. It has no variables and no door yet.
func virtualMachines(s settings, log *slog.Logger) (*qemu.Host, error) {
	data, err := filepath.Abs(s.data)
	if err != nil {
		return nil, err
	}
	all, err := pools(filepath.Join(data, "pools"), s.pools)
	if err != nil {
		return nil, err
	}
	sensors, err := hostSensors(s.hostSensors)
	if err != nil {
		return nil, err
	}
	c := qemu.Config{
		Folder: filepath.Join(data, "run"), TPMs: filepath.Join(data, "vtpm"), Pools: all, ROM: vbios.ROM, Sensors: sensors, Log: log,
	}
	if os.Geteuid() == 0 {
		c.FirstUser, c.Users = firstUser, users
	}
	return qemu.New(c), nil
}

// The users that machines have, each its own, where biosv is root: beyond those that hosts and containers give. As many
// again behind them are those of the machines' TPMs.
const (
	firstUser = 2_000_000_000
	users     = 2 * domain.MostDomains
)

var poolName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// pools are the folders in one, by their names, and those that were given as NAME=DIR.
func pools(folder string, given []string) (map[string]string, error) {
	all := map[string]string{}
	entries, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() && poolName.MatchString(e.Name()) {
			all[e.Name()] = filepath.Join(folder, e.Name())
		}
	}
	for _, g := range given {
		name, dir, ok := strings.Cut(g, "=")
		if !ok || !poolName.MatchString(name) {
			return nil, fmt.Errorf("--pool %q: NAME=DIR is needed, with a name of letters, digits, dots, dashes and underscores", g)
		}
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, err
		}
		if info, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("--pool %s: %w", name, err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("--pool %s: %s is no folder", name, dir)
		}
		all[name] = dir
	}
	return all, nil
}

// hostSensors gives the sensors and fans of the host whose names fit one of some patterns; it is nil without any.
func hostSensors(patterns []string) (func(context.Context) (*generated.ThermalReading, error), error) {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("--host-sensor %q: %w", p, err)
		}
	}
	if len(patterns) == 0 {
		return nil, nil
	}
	machine, err := host.Open(context.Background(), smm.Domain{}, nil, nil)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (*generated.ThermalReading, error) {
		reading, err := machine.Thermal(ctx)
		if err != nil {
			return nil, err
		}
		return shown(reading, patterns), nil
	}, nil
}

// shown leaves of a reading what patterns name.
func shown(reading *generated.ThermalReading, patterns []string) *generated.ThermalReading {
	others := func(name string) bool {
		return !slices.ContainsFunc(patterns, func(p string) bool {
			fits, _ := path.Match(p, name) // it was tried before
			return fits
		})
	}
	reading.Sensor = slices.DeleteFunc(reading.Sensor, func(s *generated.ThermalSensor) bool { return others(s.Name) })
	reading.Fan = slices.DeleteFunc(reading.Fan, func(f *generated.Fan) bool { return others(f.Name) })
	return reading
}

// endOthers ends virtual machines that run and are no domain's, and tells of it in the log of the privileged domain.
func endOthers(ctx context.Context, bios *smm.BIOS, virtual *qemu.Host, log *slog.Logger) error {
	domains, err := bios.Domains(ctx)
	if err != nil {
		return err
	}
	ended, err := virtual.EndOthers(domains)
	if err != nil {
		log.Error("virtual machines that are no domain's could not all be ended", "error", err)
	}
	for _, name := range ended {
		log.Warn("a virtual machine ran whose domain is not in the state, and was ended", "name", name)
		if err := bios.ChangeBeside(ctx, bios.LocalCall(smm.PrivilegedDomain), "Start", func(tx *smm.Tx) error {
			tx.Event(smm.Event{
				Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.MachineWithoutDomain",
				Message: "The virtual machine " + name + " ran, and the state has no such domain: it was ended.",
			})
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// guestDoor answers the thin virtual BIOS of guests through the gate. What they say in vain goes to the ledger.
func guestDoor(gate generated.Handler, ledger smm.Ledger, trustDomain string, log *slog.Logger) firmware.Door {
	return func(ctx context.Context, domain string, inside bool, l net.Listener, b *firmware.Boot) error {
		phase := frame.BootServices
		if inside {
			phase = frame.OperatingSystem
		}
		guest := security.GuestOf(trustDomain, domain)
		noise := func(ctx context.Context, phase frame.Phase, n uefi.Noise) {
			ledger.Note(ctx, smm.Entry{
				Call: uefi.Call(guest, domain, phase), Operation: "Noise", Outcome: smm.Refused,
				Reason: fmt.Sprintf("To the port of its thin virtual BIOS, the guest said %d bytes, in %d pieces, that are no frame, and %d frames that were refused.", n.Bytes, n.Pieces, n.Refused),
			})
		}
		return uefi.New(uefi.Config{Services: uefi.NewGate(gate, guest, domain, b), Phase: phase, Log: log.With("domain", domain), Noise: noise}).Listen(ctx, l)
	}
}
