//go:build guest

package host

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"biosv/internal/guest"
)

var update = flag.Bool("update", false, "write testdata/ovmf and testdata/seabios anew")

// product is what QEMU is told that the machines consist of; the table `captured` has the same.
var product = []string{
	"-smp", "4,sockets=2,cores=2,threads=1",
	// On a host that is busy, emulation is too slow for the kernel's trial of its timer.
	"-append", "console=ttyS0 quiet panic=-1 no_timer_check",
	"-smbios", "type=1,manufacturer=BIOS.v,product=Captured Guest,serial=CG-0001,uuid=6b7a3a52-0f5e-4a8c-9d6e-0123456789ab",
	"-smbios", "type=3,asset=Shelf 7", "-smbios", "type=17,loc_pfx=DIMM,speed=3200",
}

// What the other tests read of testdata is read of the machines themselves too: they are started, and captured.
func TestMachinesAreReadAsTheirCopiesInTestdata(t *testing.T) {
	program := filepath.Join(t.TempDir(), "capture")
	build := exec.Command("go", "build", "-o", program, "./testdata/capture")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Run("seabios", func(t *testing.T) {
		compare(t, "seabios", guest.Start(t, guest.Config{
			Firmware: guest.SeaBIOS, Files: map[string]string{"/capture": program},
			Args: append([]string{"-machine", "q35,smbios-entry-point-type=32"}, product...),
		}))
	})
	t.Run("ovmf", func(t *testing.T) {
		variables := filepath.Join(t.TempDir(), "vars.fd")
		copyFile(t, "/usr/share/OVMF/OVMF_VARS_4M.fd", variables)
		disk := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(disk, make([]byte, 64<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		c := guest.Config{
			Modules: []string{"efivarfs", "nvme", "virtio_pci", "virtio_net", "xhci_pci"},
			Files:   map[string]string{"/capture": program},
			TPM:     guest.NewTPM(t, t.TempDir()),
			Args: append([]string{
				"-machine", "q35,smbios-entry-point-type=64",
				"-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-drive", "if=pflash,format=raw,file=" + variables,
				"-drive", "if=none,id=disk,format=raw,file=" + disk, "-device", "nvme,serial=N1,drive=disk",
				"-netdev", "user,id=card,restrict=on", "-device", "virtio-net-pci,netdev=card,mac=52:54:00:12:34:56,romfile=",
				"-device", "qemu-xhci",
			}, product...),
		}
		// OVMF makes its boot options when it finds no kernel that it can start, which vmlinux is not.
		g := guest.Start(t, c)
		g.Await(t, "BdsDxe: failed to load Boot")
		g.Kill()
		c.Args = append(c.Args, "-kernel", "../../.cache/guest/kernel/vmlinuz")
		compare(t, "ovmf", guest.Start(t, c))
	})
}

// compare captures a guest, and compares what is read of the files with what is read of testdata.
func compare(t *testing.T, name string, g *guest.Guest) {
	t.Helper()
	g.Await(t, "guest: ")
	var text strings.Builder
	for _, line := range g.Do(t, "run /capture") {
		if _, part, ok := strings.Cut(line, "capture: "); ok {
			text.WriteString(part)
		}
	}
	g.Kill()
	packed, err := base64.StdEncoding.DecodeString(text.String())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), name)
	if *update {
		dir = filepath.Join("testdata", name)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	unpack(t, packed, dir)
	checkCaptured(t, name, dir)
}

func unpack(t *testing.T, packed []byte, dir string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeSymlink {
			err = os.Symlink(h.Linkname, name)
		} else {
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(name, b, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
