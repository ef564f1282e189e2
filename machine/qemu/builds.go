package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine/firmware"
)

// DefaultFirmwares are where the packages and the administrator of a host put descriptors of firmware builds, in rising
// order of who is believed (QEMU, docs/interop/firmware.json).
var DefaultFirmwares = []string{"/usr/share/qemu/firmware", "/etc/qemu/firmware"}

// mostDescriptor bounds what is read of a descriptor; they have 1 kB.
const mostDescriptor = 1 << 20

// descriptor tells of a firmware build (QEMU, docs/interop/firmware.json).
type descriptor struct {
	InterfaceTypes []string `json:"interface-types"`
	Mapping        struct {
		Device        string
		Mode          string // "split" where it is absent
		Executable    flashFile
		NVRAMTemplate flashFile `json:"nvram-template"`
	}
	Targets []struct {
		Architecture string
		Machines     []string // patterns of names of QEMU's machines
	}
	Features []string
}

type flashFile struct{ Filename, Format string }

// unfit says why machines of ours cannot have the build; empty where they can.
func (d *descriptor) unfit() string {
	switch m := d.Mapping; {
	case !slices.Contains(d.InterfaceTypes, "uefi"):
		return "it is no UEFI firmware"
	case m.Device != "flash" || m.Mode != "" && m.Mode != "split":
		return "it has no flash of its own for variables"
	case m.Executable.Format != "raw" || m.NVRAMTemplate.Format != "raw":
		return "its files are not raw"
	case slices.Contains(d.Features, "requires-smm"):
		return "it needs system management mode, which machines here do not have"
	}
	for _, t := range d.Targets {
		if t.Architecture == "x86_64" && slices.ContainsFunc(t.Machines, func(pattern string) bool {
			fits, err := path.Match(pattern, "pc-q35-") // whatever the version
			return err == nil && fits
		}) {
			return d.unfitFiles()
		}
	}
	return "it is for other machines than q35"
}

func (d *descriptor) unfitFiles() string {
	if _, err := os.Stat(d.Mapping.Executable.Filename); err != nil {
		return err.Error()
	}
	info, err := os.Stat(d.Mapping.NVRAMTemplate.Filename)
	if err != nil {
		return err.Error()
	}
	if info.Size() != firmware.FlashSize {
		return fmt.Sprintf("its flash for variables has %d bytes, and not %d", info.Size(), firmware.FlashSize)
	}
	return ""
}

// Firmware gives the firmware of a machine of which nothing else was said: the file of its code.
func (h *Host) Firmware() (code string, err error) {
	code, _, err = h.build("")
	return code, err
}

// build gives the file of a build, and its name; an empty one means the first that fits, in the order of names.
func (h *Host) build(name generated.FirmwareBuild) (code string, build generated.FirmwareBuild, err error) {
	builds, err := h.descriptors()
	if err != nil {
		return "", "", err
	}
	unfit := map[string]string{}
	var fitting []string
	for _, n := range slices.Sorted(maps.Keys(builds)) {
		if unfit[n] = builds[n].unfit(); unfit[n] == "" {
			fitting = append(fitting, n)
		}
	}
	const element = "/CreateDomain/FirmwareBuild"
	why, known := unfit[string(name)]
	switch {
	case name == "" && len(fitting) == 0:
		return "", "", fault.Unavailable(fault.NotOnThisHost, 0, "This host has no firmware for virtual machines: no descriptor in %q is of one; install the Debian package ovmf.", h.Firmwares)
	case name == "":
		name = generated.FirmwareBuild(fitting[0])
	case !known:
		return "", "", fault.NotFound(fault.UnknownFirmware, element, string(name), "This host has no firmware build %q; those that fit are %q.", name, fitting)
	case why != "":
		return "", "", fault.InvalidRequest(fault.InvalidValue, element, string(name), "The firmware build %s is not for machines of this service: %s; those that fit are %q.", name, why, fitting)
	}
	return builds[string(name)].Mapping.Executable.Filename, name, nil
}

// descriptors reads them. In a later folder a file hides one of the same name, and an empty one hides it for good; one
// that cannot be read is logged, and is none.
func (h *Host) descriptors() (map[string]*descriptor, error) {
	found := map[string]string{}
	for _, dir := range h.Firmwares {
		files, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			found[strings.TrimSuffix(filepath.Base(f), ".json")] = f
		}
	}
	all := map[string]*descriptor{}
	for name, file := range found {
		d, err := readDescriptor(file)
		switch {
		case err != nil:
			h.Log.Warn("a descriptor of firmware cannot be read", "file", file, "error", err)
		case d != nil:
			all[name] = d
		}
	}
	return all, nil
}

// readDescriptor gives nil for a file that is empty.
func readDescriptor(file string) (*descriptor, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fs.ErrInvalid
	case info.Size() > mostDescriptor:
		return nil, errors.New("it is too large")
	case info.Size() == 0:
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	d := &descriptor{}
	return d, json.Unmarshal(text, d)
}
