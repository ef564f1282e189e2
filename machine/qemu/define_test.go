package qemu

import (
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"biosv/generated"
	"biosv/smm"
)

var update = flag.Bool("update", false, "write testdata/arguments.txt anew")

func TestTheCommandLineIsThatOfTheFile(t *testing.T) {
	t.Parallel()
	pool := t.TempDir()
	h := New(Config{Pools: map[string]string{"images": pool}})
	image := func(name string) *generated.ImageName {
		if err := os.WriteFile(filepath.Join(pool, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return new(generated.ImageName("images/" + name))
	}
	m := &Machine{host: h, domain: smm.Domain{Name: "web1", UUID: "5b1f6d0e-0c57-4a0c-9d2e-0d6a4c0a1b2c", VirtualMachine: &generated.VirtualMachine{
		MemoryMiB: new(generated.MemoryMiB(2048)), ProcessorCount: new(generated.ProcessorCount(2)), NetworkMode: new(generated.NetworkModeUser),
		DiskImage: []*generated.ImageName{image("root.qcow2"), image("data.raw")}, KernelImage: image("vmlinuz"), InitrdImage: image("initrd"), KernelArguments: "console=ttyS0 a,b=c", VirtualTpm: true,
	}}}
	m.registry = registry(m.domain)
	arguments, err := m.arguments(tcg, "/usr/share/OVMF/OVMF_CODE_4M.fd", 0, m.everything(smm.Settings{
		"AssetTag": {"rack 7, left"}, "ProcessorAes": {"false"}, "ProcessorVirtualization": {"false"}, "BootMenu": {"true"}, "BootMenuSeconds": {"7"},
		"Watchdog": {"true"}, "WatchdogAction": {"PowerOff"}, "PanicAction": {"Restart"}, "RtcOffsetMinutes": {"-150"}, "NetworkBoot": {"HTTP"},
	}), time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(strings.Join(arguments, "\n"), pool, "/pool") + "\n"
	const file = "testdata/arguments.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("it is\n%s\nand not\n%s\n(go test -update writes the file anew)", got, want)
	}
	if own, err := m.arguments(tcg, "CODE.fd", 2_000_000_001, m.everything(nil), time.Time{}); err != nil || !strings.Contains(strings.Join(own, " "), "-runas 2000000001:2000000001 -sandbox on,obsolete=deny,elevateprivileges=allow,") {
		t.Errorf("with a user of its own it is %q, %v", own, err)
	}
	for _, never := range []string{"bootindex", "reboot=reset", "smm=on"} {
		if strings.Contains(got, never) {
			t.Errorf("it has %s", never)
		}
	}
}

func TestATPMNeedsItsPrograms(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	h := New(Config{Program: "/bin/true", Firmwares: []string{newFirmwares(t, "50-fits")}, Log: slog.New(slog.DiscardHandler)})
	if err := h.Define(&generated.VirtualMachine{}); err != nil {
		t.Error(err)
	}
	var unavailable *generated.UnavailableFault
	if err := h.Define(&generated.VirtualMachine{VirtualTpm: true}); !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "install the Debian package swtpm") {
		t.Errorf("it is answered with %v", err)
	}
}

func TestWhatCannotBeMadeIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	pool := filepath.Dir(b.image)
	if err := os.Symlink("/etc/passwd", filepath.Join(pool, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(pool, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	names := func(list ...string) (images []*generated.ImageName) {
		for _, n := range list {
			images = append(images, new(generated.ImageName(n)))
		}
		return images
	}
	for name, row := range map[string]struct {
		v       generated.VirtualMachine
		element string
	}{
		"no such pool":          {generated.VirtualMachine{DiskImage: names("other/disk.qcow2")}, "/CreateDomain/DiskImage[1]"},
		"no such image":         {generated.VirtualMachine{DiskImage: names("images/disk.qcow2", "images/other")}, "/CreateDomain/DiskImage[2]"},
		"a way out":             {generated.VirtualMachine{DiskImage: names("images/../passwd")}, "/CreateDomain/DiskImage[1]"},
		"a path":                {generated.VirtualMachine{DiskImage: names("/etc/passwd")}, "/CreateDomain/DiskImage[1]"},
		"a link":                {generated.VirtualMachine{DiskImage: names("images/link")}, "/CreateDomain/DiskImage[1]"},
		"a folder":              {generated.VirtualMachine{KernelImage: names("images/folder")[0]}, "/CreateDomain/KernelImage"},
		"an image twice":        {generated.VirtualMachine{DiskImage: names("images/disk.qcow2", "images/disk.qcow2")}, "/CreateDomain/DiskImage[2]"},
		"an initrd alone":       {generated.VirtualMachine{InitrdImage: names("images/disk.qcow2")[0]}, "/CreateDomain/KernelImage"},
		"arguments alone":       {generated.VirtualMachine{KernelArguments: "quiet"}, "/CreateDomain/KernelImage"},
		"arguments of two rows": {generated.VirtualMachine{KernelImage: names("images/disk.qcow2")[0], KernelArguments: "a\nb"}, "/CreateDomain/KernelArguments"},
		"too many disks":        {generated.VirtualMachine{DiskImage: names(make([]string, 17)...)}, ""},
	} {
		err := b.host.Define(&row.v)
		text, _ := json.Marshal(err)
		if err == nil || !strings.Contains(string(text), row.element) {
			t.Errorf("%s: %v %s", name, err, text)
		}
	}
	var unavailable *generated.UnavailableFault
	if err := New(Config{Program: "/nowhere"}).Define(&generated.VirtualMachine{}); !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "qemu-system-x86") {
		t.Errorf("without QEMU: %v", err)
	}
	v := &generated.VirtualMachine{}
	if err := b.host.Define(v); err != nil || *v.MemoryMiB != 1024 || *v.ProcessorCount != 1 || *v.NetworkMode != generated.NetworkModeNone {
		t.Errorf("what nobody said is %+v, %v", v, err)
	}
}
