//go:build guest

package guest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"biosv/internal/testbed"
)

// makeDisk makes an ext4 of 32 MB.
func makeDisk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if out, err := exec.Command(Tool(t, "mke2fs"), "-q", "-t", "ext4", path, "32M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	return path
}

func TestAGuestHasWhatItsConfigSays(t *testing.T) {
	t.Parallel()
	g := Start(t, Config{
		Files:  map[string]string{"/deep/down/file": writeFile(t, "one\ntwo\n")},
		Script: []string{"mount /dev/vda /data ext4", "network 10.0.2.15/24"},
		Disks:  []Disk{{Path: makeDisk(t)}},
		TPM:    NewTPM(t, t.TempDir()),
		Ports:  []int{80, 443},
	})
	if got := string(g.Show(t, "/deep/down/file")); got != "one\ntwo\n" {
		t.Errorf("the file has %q", got)
	}
	if got := string(g.Show(t, "/proc/mounts")); !strings.Contains(got, "/dev/vda /data ext4 rw") {
		t.Errorf("the disk is not mounted:\n%s", got)
	}
	if got := string(g.Show(t, "/sys/class/tpm/tpm0/tpm_version_major")); got != "2\n" {
		t.Errorf("the TPM has version %q", got)
	}
	if a, b := g.Address(t, 80), g.Address(t, 443); a == b || !strings.HasPrefix(a, "127.0.0.1:") {
		t.Errorf("two ports are at %s and %s", a, b)
	}
	g.PowerOff(t)
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAGuestRunsPrograms(t *testing.T) {
	t.Parallel()
	g := Start(t, Config{Files: map[string]string{"/bin/biosv": testbed.Program(t)}})
	if said := g.Do(t, "run /bin/biosv --version"); len(said) != 1 || !strings.HasPrefix(said[0], "| biosv version ") {
		t.Errorf("it said %q", said)
	}
	for command, why := range map[string]string{
		"run /bin/biosv 'no such command'": "exit status",
		"run /bin/nothing":                 "no such file",
		"run":                              "use it as: run PROGRAM",
		"show /bin/nothing":                "no such file",
		"mount none /x nosuchfs":           "no such device",
		"network 10.0.2.15":                "no IPv4 address",
		"stop biosv":                       "no program biosv runs",
		"kill 'biosv":                      "a single quote has no other",
		"dance":                            "there is no such command",
	} {
		line := g.AwaitNext(t, "guest: failed: "+command+": ", func() {
			if _, err := io.WriteString(g.input, command+"\n"); err != nil {
				t.Fatal(err)
			}
		})
		if !strings.Contains(line, why) {
			t.Errorf("%s; it should say %q", line, why)
		}
	}
	const serve = " biosv /bin/biosv serve --data /tmp/data --tpm software --metrics none"
	g.AwaitNext(t, "biosv: biosv: ready on ", func() { g.Do(t, "keep"+serve) })
	g.AwaitNext(t, "biosv: biosv: ready on ", func() { g.Do(t, "kill biosv") })
	g.AwaitNext(t, "guest: biosv: it ended", func() { g.Do(t, "stop biosv") })
	g.AwaitNext(t, "biosv: biosv: ready on ", func() { g.Do(t, "start"+serve) })
	g.AwaitNext(t, "guest: biosv: signal: hangup", func() { g.Do(t, "kill biosv HUP") })
	g.PowerOff(t)
}

func TestAGuestStartsWithEachFirmware(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"qboot":   {},
		"SeaBIOS": {Firmware: SeaBIOS},
		"OVMF":    {Firmware: OVMF, Modules: []string{"efivarfs"}, TPM: NewTPM(t, t.TempDir())},
	} {
		t.Run(name, func(t *testing.T) {
			c.Script = []string{"# nothing"}
			g := Start(t, c)
			mounts := string(g.Show(t, "/proc/mounts"))
			if uefi := c.Firmware == OVMF; strings.Contains(mounts, " efivarfs ") != uefi {
				t.Errorf("efivarfs is mounted: %v\n%s", !uefi, mounts)
			}
			g.PowerOff(t)
		})
	}
}
