package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"biosv/generated"
	"biosv/machine/firmware"
)

// newFirmwares makes a folder with descriptors of builds that fit.
func newFirmwares(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range names {
		describe(t, dir, n, nil)
	}
	return dir
}

// describe writes a descriptor of a build that fits, but for what change does to it.
func describe(t *testing.T, dir, name string, change func(*descriptor)) {
	t.Helper()
	code, variables := filepath.Join(dir, name+".CODE.fd"), filepath.Join(dir, name+".VARS.fd")
	for file, size := range map[string]int64{code: 0, variables: firmware.FlashSize} {
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
			t.Fatal(err)
		}
	}
	var d descriptor
	text := fmt.Sprintf(`{"interface-types": ["uefi"], "mapping": {"device": "flash", "executable": {"filename": %q, "format": "raw"}, "nvram-template": {"filename": %q, "format": "raw"}},
		"targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}], "features": ["acpi-s3"]}`, code, variables)
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&d)
	}
	out, err := json.Marshal(d)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".json"), out, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAFirmwareBuildIsChosenByItsDescriptor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	packages, own := b.host.Firmwares[0], t.TempDir()
	b.host.Firmwares = []string{packages, own, filepath.Join(own, "absent")}
	for name, change := range map[string]func(*descriptor){
		"10-bios":   func(d *descriptor) { d.InterfaceTypes = []string{"bios"} },
		"20-smm":    func(d *descriptor) { d.Features = append(d.Features, "requires-smm") },
		"21-other":  func(d *descriptor) { d.Targets[0].Architecture = "aarch64" },
		"22-i440":   func(d *descriptor) { d.Targets[0].Machines = d.Targets[0].Machines[:1] },
		"23-memory": func(d *descriptor) { d.Mapping.Device = "memory" },
		"24-one":    func(d *descriptor) { d.Mapping.Mode = "stateless" },
		"25-qcow2":  func(d *descriptor) { d.Mapping.Executable.Format = "qcow2" },
		"26-gone":   func(d *descriptor) { d.Mapping.Executable.Filename = "/nowhere/CODE.fd" },
		"27-small":  func(d *descriptor) { d.Mapping.NVRAMTemplate.Filename = d.Mapping.Executable.Filename },
		"30-hidden": nil, "60-fits": nil,
	} {
		describe(t, packages, name, change)
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(own, "30-hidden.json"), nil, 0o600), // which hides it
		os.WriteFile(filepath.Join(own, "15-damaged.json"), []byte("{"), 0o600),
		os.Mkdir(filepath.Join(own, "16-folder.json"), 0o700),
	); err != nil {
		t.Fatal(err)
	}
	for name, refusal := range map[string]string{
		"10-bios": "it is no UEFI firmware", "20-smm": "it needs system management mode", "21-other": "for other machines", "22-i440": "for other machines", "23-memory": "no flash of its own",
		"24-one": "no flash of its own", "25-qcow2": "not raw", "26-gone": "no such file", "27-small": "has 0 bytes, and not 540672",
		"30-hidden": "has no firmware build", "15-damaged": "has no firmware build", "16-folder": "has no firmware build", "70-none": "has no firmware build", "60-fits": "", "50-fits": "", "": "",
	} {
		v := &generated.VirtualMachine{}
		if name != "" {
			v.FirmwareBuild = new(generated.FirmwareBuild(name))
		}
		err := b.host.Define(v)
		want := name
		if name == "" {
			want = "50-fits"
		}
		switch {
		case refusal == "" && (err != nil || string(*v.FirmwareBuild) != want):
			t.Errorf("%q: %v, %v", name, v.FirmwareBuild, err)
		case refusal != "" && (err == nil || !strings.Contains(err.Error(), refusal) || !strings.Contains(err.Error(), `["50-fits" "60-fits"]`)):
			t.Errorf("%q: %v", name, err)
		}
	}
	describe(t, own, "40-new", nil)
	runs := func(code string) {
		t.Helper()
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", b.machine.running().process.pid))
		if err != nil || !strings.Contains(string(line), code) {
			t.Errorf("it runs with %q, %v, and not with %s", line, err, code)
		}
	}
	b.reset(generated.ResetTypeOn) // with the build that it was made with
	runs(filepath.Join(packages, "50-fits.CODE.fd"))
	b.domain.VirtualMachine.FirmwareBuild = nil // as in a record of before there was a choice
	b.reset(generated.ResetTypeForceRestart)
	runs(filepath.Join(own, "40-new.CODE.fd"))
	b.host.Firmwares = []string{filepath.Join(own, "absent")}
	var unavailable *generated.UnavailableFault
	if err := b.host.Define(&generated.VirtualMachine{}); !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "install the Debian package ovmf") {
		t.Errorf("without firmware: %v", err)
	}
}
