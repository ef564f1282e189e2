package doctor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"
)

var today = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// fixture is a host on which everything is as it should be, and a service that runs on it.
type fixture struct {
	Config
	devices  map[string]error
	programs map[string]string
	server   *httptest.Server
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	f := &fixture{
		devices:  map[string]error{"/dev/tpmrm0": nil, "/dev/kvm": nil},
		programs: map[string]string{"swtpm": "TPM emulator version 0.7.1, Copyright (c) somebody\n", "swtpm_setup": "TPM emulator setup tool version 0.7.1\n", "qemu-system-x86_64": "QEMU emulator version 7.2.22\n"},
		server:   httptest.NewUnstartedServer(http.NotFoundHandler()),
	}
	f.server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are given up
	f.server.StartTLS()
	t.Cleanup(f.server.Close)
	f.Config = Config{
		Files: Files{
			Folder: dir, State: filepath.Join(dir, "state.db"), Address: filepath.Join(dir, "address"),
			Root: filepath.Join(dir, "trust", "root.pem"), Admin: filepath.Join(dir, "clients", "admin.pem"),
		},
		Listen: "127.0.0.1:0", Device: "/dev/tpmrm0", Swtpm: true,
		Root:     fstest.MapFS{"sys/firmware/efi/efivars/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c": {}, "usr/sbin/libvirtd": {}},
		Firmware: func() (string, error) { return "/usr/share/OVMF/OVMF_CODE_4M.fd", nil },
		Open: func(path string) error {
			err, ok := f.devices[path]
			if !ok {
				err = fs.ErrNotExist
			}
			return err
		},
		Run: func(_ context.Context, name string, args ...string) (string, error) {
			out, ok := f.programs[name]
			if !ok || !slices.Equal(args, []string{"--version"}) {
				return "", exec.ErrNotFound
			}
			return out, errors.New("exit status 1")
		},
		Writable:  writable,
		SMBIOS:    func() (string, error) { return "version 3.0, 10 structures", nil },
		Sensors:   func(context.Context) (string, error) { return "3 that answer", nil },
		Clock:     func() (time.Time, bool) { return today, true },
		OpenFiles: func() (uint64, error) { return 1 << 20, nil },
		Hook:      func() error { return nil },
		Attached:  func() []string { return []string{"web1"} },
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw})
	write(t, f.Files.State, nil)
	write(t, f.Files.Address, []byte(f.server.URL+"/bios\n"))
	write(t, f.Files.Root, certificate)
	write(t, f.Files.Admin, certificate)
	return f
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// lock holds a file as a running service holds its store.
func lock(t *testing.T, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
}

// listenTo takes a port, and gives its address.
func listenTo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func nowhereAHook() error { return fs.ErrNotExist }

func (f *fixture) clockAt(now time.Time) { f.Clock = func() (time.Time, bool) { return now, true } }

func TestExamineFindsNothingToDoWhereAllIsWell(t *testing.T) {
	t.Parallel()
	r := Examine(t.Context(), newFixture(t).Config)
	for _, c := range r.Checks {
		if c.State != OK || c.Blocks || c.Remedy != "" || c.Found == "" {
			t.Errorf("%+v", c)
		}
	}
	if !r.Ready || r.Err() != nil {
		t.Errorf("ready is %t, %v", r.Ready, r.Err())
	}
	var names []string
	for _, c := range r.Checks {
		names = append(names, c.Name)
	}
	want := []string{"TPM", "swtpm", "swtpm_setup", "data folder", "disk", "service", "address", "root certificate", "admin certificate", "clock", "open files", "SMBIOS", "sensors", "UEFI variables", "qemu-system-x86_64", "OVMF", "KVM", "libvirt's hook"}
	if !slices.Equal(names, want) {
		t.Errorf("looked at %q, want %q", names, want)
	}
}

func TestExamineSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name          string
		spoil         func(*testing.T, *fixture)
		check         string
		state         State
		found, remedy string // parts of them
		blocks        bool
	}{
		{"no TPM device", func(t *testing.T, f *fixture) { delete(f.devices, "/dev/tpmrm0") },
			"TPM", Lacks, "there is no /dev/tpmrm0; swtpm stands in", "firmware's setup", false},
		{"no TPM of any kind", func(t *testing.T, f *fixture) { delete(f.devices, "/dev/tpmrm0"); f.programs = nil },
			"swtpm_setup", Lacks, "not in the PATH", "apt install swtpm-tools", true},
		{"no TPM device and half of swtpm", func(t *testing.T, f *fixture) { delete(f.devices, "/dev/tpmrm0"); delete(f.programs, "swtpm") },
			"swtpm", Lacks, "not in the PATH", "apt install swtpm", true},
		{"no swtpm beside a device", func(t *testing.T, f *fixture) { f.programs = nil },
			"swtpm", Lacks, "not in the PATH", "apt install swtpm", false},
		{"a swtpm that does not run", func(t *testing.T, f *fixture) { f.programs["swtpm"] = "" },
			"swtpm", Problem, "exit status 1", "apt install --reinstall swtpm", false},
		{"a TPM for others", func(t *testing.T, f *fixture) { f.devices["/dev/tpmrm0"] = fs.ErrPermission },
			"TPM", Problem, "may not open /dev/tpmrm0", "tpm-udev", false},
		{"a TPM that fails", func(t *testing.T, f *fixture) { f.devices["/dev/tpmrm0"] = unix.EIO },
			"TPM", Problem, "input/output error; swtpm stands in", "dmesg", false},
		{"a TPM device that serve is told to use", func(t *testing.T, f *fixture) { f.Device, f.Swtpm = "/dev/tpmrm7", false },
			"TPM", Lacks, "there is no /dev/tpmrm7", "firmware's setup", true},
		{"serve is told to use swtpm", func(t *testing.T, f *fixture) { f.Device, f.programs = "", nil },
			"swtpm", Lacks, "not in the PATH", "apt install swtpm", true},
		{"serve is told to do without a TPM", func(t *testing.T, f *fixture) { f.Device, f.Swtpm, f.programs = "", false, nil },
			"TPM", Lacks, "told to use no device", "", false},

		{"a folder that is not there", func(t *testing.T, f *fixture) { remove(t, f.Files.Folder) },
			"data folder", OK, "serve makes it", "", false},
		{"a folder deep below one that is there", func(t *testing.T, f *fixture) { f.Files.Folder += "/a/b/c" },
			"data folder", OK, "serve makes it", "", false},
		{"a folder that this user may not make", func(t *testing.T, f *fixture) { remove(t, f.Files.Folder); f.Writable = nowhere },
			"data folder", Problem, "may not make it in " + os.TempDir(), "--data", true},
		{"a folder of another user", func(t *testing.T, f *fixture) { f.Writable = nowhere },
			"data folder", Problem, "may not change what is in", "sudo -u USER", true},
		{"a folder that others can look into", func(t *testing.T, f *fixture) { chmod(t, f.Files.Folder, 0o755) },
			"data folder", Problem, "mode 0755", "chmod 0700", false},
		{"a file in its place", func(t *testing.T, f *fixture) { f.Files.Folder = f.Files.State },
			"data folder", Problem, "is no folder", "--data", true},
		{"a folder below a file", func(t *testing.T, f *fixture) { f.Files.Folder = f.Files.State + "/x" },
			"data folder", Problem, "not a directory", "sudo -u USER", true},

		{"no service", func(t *testing.T, f *fixture) { remove(t, f.Files.Address) },
			"service", Lacks, "none runs", "biosv serve --data", false},
		{"a service that ended", func(t *testing.T, f *fixture) { f.server.Close() },
			"service", Lacks, "none runs", "biosv serve --data", false},
		{"a service that does not answer", func(t *testing.T, f *fixture) { f.server.Close(); lock(t, f.Files.State) },
			"service", Problem, "connection refused", "log", false},
		{"a service that is starting", func(t *testing.T, f *fixture) { remove(t, f.Files.Address); lock(t, f.Files.State) },
			"service", Problem, "does not answer", "look again", false},
		{"an address that is none", func(t *testing.T, f *fixture) {
			write(t, f.Files.Address, []byte("http://127.0.0.1/"))
			lock(t, f.Files.State)
		}, "service", Problem, "has no address of a service", "log", false},
		{"another service at its address", func(t *testing.T, f *fixture) {
			write(t, f.Files.Root, otherRoot(t))
			lock(t, f.Files.State)
		}, "service", Problem, "certificate signed by unknown authority", "log", false},
		{"an address that another program has", func(t *testing.T, f *fixture) { f.server.Close(); f.Listen = listenTo(t) },
			"address", Problem, "in use by another program", "--listen", true},
		{"an address that the service has", func(t *testing.T, f *fixture) { f.Listen = f.server.Listener.Addr().String() },
			"address", OK, "while a service runs", "", false},
		{"an address of another host", func(t *testing.T, f *fixture) { f.Listen = "192.0.2.1:8443" },
			"address", Problem, "cannot assign", "--listen", true},

		{"no certificate", func(t *testing.T, f *fixture) { remove(t, f.Files.Root) },
			"root certificate", Lacks, "at its first start", "", false},
		{"no admin", func(t *testing.T, f *fixture) { remove(t, f.Files.Admin) },
			"admin certificate", Lacks, "at its first start", "", false},
		{"a certificate that ended", func(t *testing.T, f *fixture) { f.clockAt(f.server.Certificate().NotAfter.Add(time.Second)) },
			"root certificate", Problem, "ended at", "biosv trust install", false},
		{"a certificate that ends soon", func(t *testing.T, f *fixture) { f.clockAt(f.server.Certificate().NotAfter.Add(-29 * 24 * time.Hour)) },
			"admin certificate", Problem, "ends soon", "start the service anew", false},
		{"a certificate of the future", func(t *testing.T, f *fixture) {
			write(t, f.Files.Root, otherRoot(t))
			f.clockAt(today.AddDate(0, -2, 0))
		},
			"root certificate", Problem, "is valid from", "clock", false},
		{"a certificate that is none", func(t *testing.T, f *fixture) { write(t, f.Files.Admin, []byte("x")) },
			"admin certificate", Problem, "no certificate in PEM", "backup", false},
		{"a certificate that is damaged", func(t *testing.T, f *fixture) {
			write(t, f.Files.Admin, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1, 2}}))
		}, "admin certificate", Problem, "x509", "backup", false},
		{"a certificate without an end", func(t *testing.T, f *fixture) { write(t, f.Files.Admin, make([]byte, 300<<10)) },
			"admin certificate", Problem, "more than", "", false},

		{"a clock that lost its time", func(t *testing.T, f *fixture) { f.clockAt(time.Unix(0, 0)) },
			"clock", Problem, "1970-01-01T00:00:00Z is in the past", "systemd-timesyncd", true},
		{"a clock that nothing keeps right", func(t *testing.T, f *fixture) { f.Clock = func() (time.Time, bool) { return today, false } },
			"clock", Problem, "nothing that keeps it right", "systemd-timesyncd", false},
		{"few open files", func(t *testing.T, f *fixture) { f.OpenFiles = func() (uint64, error) { return 1024, nil } },
			"open files", Problem, "1024 at once", "LimitNOFILE", false},
		{"hardly any open files", func(t *testing.T, f *fixture) { f.OpenFiles = func() (uint64, error) { return 64, nil } },
			"open files", Problem, "64 at once", "LimitNOFILE", true},

		{"no SMBIOS", func(t *testing.T, f *fixture) { f.SMBIOS = failSMBIOS(fs.ErrNotExist) }, "SMBIOS", Lacks, "shows no tables", "", false},
		{"SMBIOS for root alone", func(t *testing.T, f *fixture) {
			f.SMBIOS = failSMBIOS(&fs.PathError{Op: "open", Path: "DMI", Err: unix.EACCES})
		}, "SMBIOS", Lacks, "root alone", "", false},
		{"damaged SMBIOS", func(t *testing.T, f *fixture) { f.SMBIOS = failSMBIOS(errors.New("its checksum is wrong")) }, "SMBIOS", Problem, "its checksum is wrong", "firmware", false},
		{"no sensors", func(t *testing.T, f *fixture) {
			f.Sensors = func(context.Context) (string, error) { return "", errors.New("none") }
		}, "sensors", Lacks, "none answers", "lm-sensors", false},
		{"no UEFI", func(t *testing.T, f *fixture) { f.Root = fstest.MapFS{} }, "UEFI variables", Lacks, "not started by UEFI", "", false},
		{"efivarfs that is not mounted", func(t *testing.T, f *fixture) { f.Root = fstest.MapFS{"sys/firmware/efi/efivars": {Mode: fs.ModeDir}} },
			"UEFI variables", Lacks, "not mounted", "mount -t efivarfs", false},
		{"no libvirt", func(t *testing.T, f *fixture) { f.Root, f.Hook = fstest.MapFS{}, nowhereAHook }, "libvirt's hook", Lacks, "no libvirt", "", false},
		{"no hook, and nothing attached", func(t *testing.T, f *fixture) { f.Hook, f.Attached = nowhereAHook, func() []string { return nil } }, "libvirt's hook", Lacks, "libvirt has none", "libvirt-hook --install", false},
		{"no hook for what is attached", func(t *testing.T, f *fixture) { f.Hook = nowhereAHook }, "libvirt's hook", Problem, "attached are web1", "restart libvirtd", false},
		{"another's hook", func(t *testing.T, f *fixture) { f.Hook = func() error { return errors.New("it runs another program") } }, "libvirt's hook", Problem, "another program", "libvirt-hook --install", false},
		{"no KVM", func(t *testing.T, f *fixture) { delete(f.devices, "/dev/kvm") }, "KVM", Lacks, "emulated, which is slow", "", false},
		{"KVM for others", func(t *testing.T, f *fixture) { f.devices["/dev/kvm"] = fs.ErrPermission }, "KVM", Lacks, "may not open /dev/kvm: virtual machines are emulated", "group kvm", false},
		{"no QEMU", func(t *testing.T, f *fixture) { delete(f.programs, "qemu-system-x86_64") }, "qemu-system-x86_64", Lacks, "not in the PATH", "apt install qemu-system-x86", false},
		{"no firmware", func(t *testing.T, f *fixture) {
			f.Firmware = func() (string, error) { return "", errors.New("there is none") }
		}, "OVMF", Lacks, "there is none", "apt install ovmf", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			row.spoil(t, f)
			r := Examine(t.Context(), f.Config)
			i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.Name == row.check })
			if i < 0 {
				t.Fatalf("no check is named %s", row.check)
			}
			c := r.Checks[i]
			if c.State != row.state || c.Blocks != row.blocks || !strings.Contains(c.Found, row.found) || !strings.Contains(c.Remedy, row.remedy) || row.remedy == "" && c.Remedy != "" {
				t.Errorf("got %+v", c)
			}
			if r.Ready == row.blocks {
				t.Errorf("ready is %t: %v", r.Ready, r.Err())
			}
			if err := r.Err(); row.blocks && (err == nil || !strings.Contains(err.Error(), row.check)) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func nowhere(string) bool { return false }

func failSMBIOS(err error) func() (string, error) { return func() (string, error) { return "", err } }

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// otherRoot is a root that issued nothing here.
func otherRoot(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "another"}, NotBefore: today.AddDate(0, -1, 0), NotAfter: today.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestTheReportIsATableForPeople(t *testing.T) {
	t.Parallel()
	r := &Report{Ready: true, Checks: []Check{
		{Name: "TPM", State: Lacks, Found: "there is no device", Remedy: "turn it on"},
		{Name: "data folder", State: OK, Found: strings.Repeat("word ", 20) + "end"},
	}}
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	want := "STATE    WHAT         FOUND\n" +
		"lacks    TPM          there is no device\n" +
		"                      → turn it on\n" +
		"ok       data folder  " + strings.Repeat("word ", 14) + "word\n" +
		"                      word word word word word end\n" +
		"\nbiosv serve can run here.\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestTheReportIsJSONForPrograms(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(&Report{Checks: []Check{{Name: "swtpm", State: Lacks, Found: "not there", Remedy: "apt install swtpm", Blocks: true}, {Name: "KVM", State: OK, Found: "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"Ready":false,"Checks":[{"Name":"swtpm","State":"lacks","Found":"not there","Remedy":"apt install swtpm","Blocks":true},{"Name":"KVM","State":"ok","Found":"x","Blocks":false}]}`
	if string(text) != want {
		t.Errorf("got %s", text)
	}
}

func TestWhatComesFromElsewhereIsOneCleanLine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.programs["swtpm"] = "\x1b[31mversion\t1\x00\u202e" + strings.Repeat("x", 500) + "\nmore\n"
	r := Examine(t.Context(), f.Config)
	if found := r.Checks[1].Found; !strings.HasPrefix(found, "[31mversion 1 xxx") || len([]rune(found)) != 300 || strings.Contains(found, "more") {
		t.Errorf("got %q", found)
	}
}

// The very host that runs the tests is looked at; only what every host has can be said of it.
func TestHereLooksAtThisHost(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Here()
	if now, _ := f.Clock(); time.Since(now) > time.Minute {
		t.Errorf("the clock says %s", now)
	}
	if most, err := f.OpenFiles(); err != nil || most == 0 {
		t.Errorf("open files: %d, %v", most, err)
	}
	if err := f.Open("/dev/null"); err != nil {
		t.Error(err)
	}
	if err := f.Open("/dev/no such device"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a device that is not there: %v", err)
	}
	if out, err := f.Run(t.Context(), "sh", "-c", "echo version 1; exit 3"); out != "version 1\n" || err == nil {
		t.Errorf("run: %q, %v", out, err)
	}
	if _, err := f.Run(t.Context(), "no-such-program"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("a program that is not there: %v", err)
	}
	if _, err := fs.Stat(f.Root, "proc/self"); err != nil {
		t.Error(err)
	}
	if r := Examine(t.Context(), f.Config); len(r.Checks) != 18 {
		t.Error(fmt.Sprint(r))
	}
}
