//go:build guest

package libvirt_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"biosv/generated"
	"biosv/internal/testbed"
)

const (
	vendor  = "5e0ad1f4-7c52-4b3c-9d0c-2f6a1f7b8c11" // of testdata/program.c
	name    = "biosv-attached"
	address = "libvirt:qemu:///system/" + name
	// boundary marks the process in which there is a libvirt that nobody else has, and names the program that was built.
	boundary = "BIOSV_LIBVIRT_BOUNDARY"
	entry    = generated.BootOptionReference("Boot0042") // which the program makes
	bootTime = 150 * time.Second                         // of a machine that is emulated on a host that is busy
)

// within runs a test again in a process of its own, as root, which will have mounts of its own, so that libvirt's folders
// are the test's.
func within(t *testing.T) (already bool) {
	t.Helper()
	if os.Getenv(boundary) != "" {
		return true
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // where the daemons are
	for tool, pack := range map[string]string{"libvirtd": "libvirt-daemon-system", "virtlogd": "libvirt-daemon-system", "virsh": "libvirt-clients", "clang-14": "clang-14", "lld-link-14": "lld-14", "mkfs.vfat": "dosfstools", "mcopy": "mtools", "qemu-system-x86_64": "qemu-system-x86"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing; install it with: apt-get install %s", tool, pack)
		}
	}
	words := []string{"unshare", "--mount", os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=10m"}
	if os.Geteuid() != 0 {
		words = append([]string{"sudo", "-n", "env", "PATH=" + os.Getenv("PATH"), boundary + "=" + testbed.Program(t)}, words...)
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), boundary+"="+testbed.Program(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("as root, in a process of its own: %v; libvirt's system instance is root's, so who is not needs sudo without a password", err)
	}
	return false
}

// bench is a libvirt, a service, and a machine.
type bench struct {
	*testing.T
	dir     string
	daemon  *exec.Cmd
	service *testbed.Service
}

func newBench(t *testing.T) *bench {
	t.Helper()
	for _, path := range []string{"/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"} {
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, "mode=0755"); err != nil {
			t.Fatalf("mount %s: %v", path, err)
		}
	}
	dir, err := os.MkdirTemp("", "libvirt") // a socket's path has at most 107 bytes, and QEMU's user reaches it
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, dir: dir}
	b.must(os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	b.must(os.WriteFile("/etc/libvirt/qemu.conf", []byte("security_driver = \"none\"\ncgroup_controllers = []\n"), 0o600))
	b.must(os.WriteFile("/etc/libvirt/libvirtd.conf", []byte("auth_unix_rw = \"none\"\nunix_sock_group = \"root\"\n"), 0o600))
	b.command(os.Getenv(boundary), "libvirt-hook", "--install")
	b.start("virtlogd", "-p", "/run/libvirt/virtlogd.pid")
	b.libvirtd()
	t.Cleanup(func() {
		for _, n := range []string{name, name + "-not"} {
			_, _ = b.virsh("destroy", n) // it is off where the test went well
		}
	})
	return b
}

func (b *bench) libvirtd() {
	b.Helper()
	b.daemon = b.start("libvirtd", "-p", "/run/libvirt/libvirtd.pid")
	b.eventually(30*time.Second, "libvirt answers", func() bool { _, err := b.virsh("version"); return err == nil })
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// start starts a daemon that ends with the test.
func (b *bench) start(program string, arguments ...string) *exec.Cmd {
	b.Helper()
	cmd := exec.Command(program, arguments...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(b.dir, program+".log"))
	b.must(err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	b.must(cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if b.Failed() {
			text, _ := os.ReadFile(log.Name())
			b.Logf("%s: %s", program, text)
		}
	})
	return cmd
}

// command runs a program that must succeed.
func (b *bench) command(program string, arguments ...string) string {
	b.Helper()
	out, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		b.Fatalf("%s %q: %v\n%s", program, arguments, err, out)
	}
	return string(out)
}

func (b *bench) virsh(arguments ...string) (string, error) {
	out, err := exec.Command("virsh", append([]string{"-q", "-c", "qemu:///system"}, arguments...)...).CombinedOutput()
	return string(out), err
}

func (b *bench) mustVirsh(arguments ...string) string {
	b.Helper()
	out, err := b.virsh(arguments...)
	if err != nil {
		b.Fatalf("virsh %q: %v\n%s", arguments, err, out)
	}
	return out
}

func (b *bench) eventually(most time.Duration, what string, so func() bool) {
	b.Helper()
	for began := time.Now(); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > most {
			console, _ := os.ReadFile(b.console())
			b.Fatalf("%s: not within %s\n%s", what, most, console)
		}
	}
}

// disk makes a disk with a program that says its name.
func (b *bench) disk(disk string) string {
	b.Helper()
	at := func(suffix string) string { return filepath.Join(b.dir, disk+suffix) }
	b.command("clang-14", "-target", "x86_64-unknown-windows", "-std=c2x", "-ffreestanding", "-fshort-wchar", "-mno-red-zone", "-mgeneral-regs-only", "-Os", "-fno-stack-protector",
		"-Wall", "-Wextra", "-Werror", "-DNAME=L\""+disk+"\"", "-c", "testdata/program.c", "-o", at(".o"))
	b.command("lld-link-14", "/subsystem:efi_application", "/entry:start", "/nodefaultlib", "/out:"+at(".efi"), at(".o"))
	b.must(os.WriteFile(at(".img"), make([]byte, 2<<20), 0o666))
	b.command("mkfs.vfat", at(".img"))
	b.command("mmd", "-i", at(".img"), "::/EFI", "::/EFI/BOOT")
	b.command("mcopy", "-i", at(".img"), at(".efi"), "::/EFI/BOOT/BOOTX64.EFI")
	return at(".img")
}

func (b *bench) console() string { return filepath.Join(b.dir, "console") }

// slots are where the disks are on the PCI bus, by which their boot options are known.
var slots = map[string]int{"one": 0x10, "two": 0x11}

func (b *bench) define() {
	b.Helper()
	disks := ""
	for i, disk := range []string{"one", "two"} {
		disks += fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vd%c' bus='virtio'/><address type='pci' domain='0' bus='0' slot='%d' function='0'/></disk>`,
			b.disk(disk), 'a'+i, slots[disk])
	}
	b.defineAs(name, `<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>`, disks+`<interface type='user'><model type='virtio'/></interface>
<serial type='file'><source path='`+b.console()+`' append='on'/></serial>
<graphics type='vnc' port='-1' passwd='secret'/>`)
}

func (b *bench) defineAs(name, system, devices string) {
	b.Helper()
	file := filepath.Join(b.dir, name+".xml")
	b.must(os.WriteFile(file, []byte(`<domain type='qemu'><name>`+name+`</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type>`+system+`</os><features><acpi/></features><devices>`+devices+`</devices></domain>`), 0o600))
	b.mustVirsh("define", file)
}

func (b *bench) defineText(definition string) {
	b.Helper()
	file := filepath.Join(b.dir, "definition.xml")
	b.must(os.WriteFile(file, []byte(definition), 0o600))
	b.mustVirsh("define", file)
}

func (b *bench) definition() string {
	b.Helper()
	return b.mustVirsh("dumpxml", "--inactive", "--security-info", name)
}

var said = regexp.MustCompile(`GUEST (\w+) own=(\S*) order=((?: [0-9A-F]{4})*) \.`)

// greeting is what the program said when it was started.
type greeting struct{ disk, own, order string }

// greetings are those that were said since the machine was made.
func (b *bench) greetings() (all []greeting) {
	b.Helper()
	text, err := os.ReadFile(b.console())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.Fatal(err)
	}
	for _, m := range said.FindAllStringSubmatch(string(text), -1) {
		all = append(all, greeting{m[1], m[2], strings.TrimSpace(m[3])})
	}
	return all
}

// boots waits for a number of further greetings, which act brings about, and gives them.
func (b *bench) boots(n int, act func()) []greeting {
	b.Helper()
	before := len(b.greetings())
	act()
	b.eventually(time.Duration(n)*bootTime, fmt.Sprintf("%d boots", n), func() bool { return len(b.greetings()) >= before+n })
	return b.greetings()[before:]
}

func (b *bench) off() {
	b.Helper()
	b.eventually(bootTime, "off", func() bool { return strings.TrimSpace(b.mustVirsh("domstate", name)) == "shut off" })
}

// serve starts the service, over the data of the one before.
func (b *bench) serve() {
	b.Helper()
	b.service = testbed.Start(b.T, testbed.Options{Program: os.Getenv(boundary), Data: filepath.Join(b.dir, "data"), Args: []string{"--tpm", "software", "--libvirt-folder", filepath.Join(b.dir, "run")}})
}

// biosv runs a command of the program as its first admin.
func (b *bench) biosv(arguments ...string) string {
	b.Helper()
	cmd := exec.Command(os.Getenv(boundary), arguments...)
	cmd.Env = append(os.Environ(), "BIOSV_DATA="+b.service.Data)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("biosv %q: %v\n%s", arguments, err, out)
	}
	return string(out)
}

func (b *bench) call() generated.Call { return testbed.At(name) }

func (b *bench) get(variable, vendor string) []byte {
	b.Helper()
	reply, err := b.service.Admin(b).GetVariable(b.Context(), b.call(), &generated.GetVariableRequest{Name: new(generated.VariableName(variable)), VendorGuid: new(generated.VendorGuid(vendor))})
	b.must(err)
	return reply.VariableData
}

func (b *bench) set(variable, vendor string, value []byte) {
	b.Helper()
	_, err := b.service.Admin(b).SetVariable(b.Context(), b.call(), &generated.SetVariableRequest{
		Name: new(generated.VariableName(variable)), VendorGuid: new(generated.VendorGuid(vendor)), VariableData: value,
		VariableAttribute: []*generated.VariableAttribute{
			new(generated.VariableAttributeNonVolatile), new(generated.VariableAttributeBootServiceAccess), new(generated.VariableAttributeRuntimeAccess),
		},
	})
	b.must(err)
}

// options are the boot options, and what the boot order is as the program says it.
func (b *bench) options() (all []*generated.BootOption, order string) {
	b.Helper()
	reply, err := b.service.Admin(b).GetBootOptions(b.Context(), b.call(), &generated.GetBootOptionsRequest{})
	b.must(err)
	var words []string
	for _, r := range reply.BootOrder {
		words = append(words, strings.TrimPrefix(string(*r), "Boot"))
	}
	return reply.BootOption, strings.Join(words, " ")
}

// option finds the boot option that the firmware made of a disk.
func (b *bench) option(disk string) generated.BootOptionReference {
	b.Helper()
	all, _ := b.options()
	for _, o := range all {
		if *o.BootOptionReference != entry && strings.Contains(o.UefiDevicePath, fmt.Sprintf("Pci(0x%X,0x0)", slots[disk])) {
			return *o.BootOptionReference
		}
	}
	b.Fatalf("the disk %s has no boot option", disk)
	return ""
}

func (b *bench) domain() *generated.Domain {
	b.Helper()
	reply, err := b.service.Admin(b).GetDomain(b.Context(), b.call(), &generated.GetDomainRequest{})
	b.must(err)
	return reply.Domain
}

// told says how many records of an id the event log has.
func (b *bench) told(id string) (n int) {
	b.Helper()
	reply, err := b.service.Admin(b).GetEventLog(b.Context(), b.call(), &generated.GetEventLogRequest{MostRecords: new(generated.RecordLimit(1000))})
	b.must(err)
	for _, r := range reply.Record {
		if r.MessageId == "BiosV.1.0."+id {
			n++
		}
	}
	return n
}

// A machine of libvirt goes through an attachment. A boot takes 4 s of emulation, so it does so once.
func TestAMachineOfLibvirtIsAttachedAndGivenBack(t *testing.T) {
	if !within(t) {
		return
	}
	b := newBench(t)
	b.define()
	start := func() { b.mustVirsh("start", name) }
	first := b.boots(1, start)
	b.off()
	if first[0].disk != "one" {
		t.Fatalf("it started %v", first)
	}
	original := b.definition()
	_, rest, _ := strings.Cut(original, "<nvram>")
	flash, _, _ := strings.Cut(rest, "</nvram>")
	owner := stat(b, flash)
	b.serve()

	preview := b.biosv("attach", address, "--dry-run")
	for _, line := range []string{"-    <nvram>" + flash + "</nvram>", "-  <on_reboot>restart</on_reboot>", "+  <on_reboot>destroy</on_reboot>", "+    <suspend-to-mem enabled='no'/>", "+      <alias name='ua-biosv'/>", "+        <qemu:property name='bootindex' type='remove'/>"} {
		if !strings.Contains(preview, line+"\n") {
			t.Errorf("the difference has no line %q:\n%s", line, preview)
		}
	}
	if strings.Contains(preview, "secret") {
		t.Error("the difference shows a password")
	}
	if now := b.definition(); now != original {
		t.Fatalf("looking changed it: %s", cmp.Diff(original, now))
	}
	b.biosv("attach", address)
	d := b.domain()
	if *d.DomainKind != generated.DomainKindLibvirt || d.MachineAddress != address || *d.PowerState != generated.PowerStateOff || d.Diverged != "" {
		t.Errorf("the domain is %+v", d)
	}
	if got := b.get("Own", vendor); string(got) != "mine" {
		t.Errorf("its variable is %q", got)
	}
	if _, order := b.options(); !strings.HasPrefix(order, "0042 ") {
		t.Errorf("its boot entry is not first of %s", order)
	}

	b.set("Action", vendor, []byte("O"))
	if got := b.boots(1, start)[0]; got.disk != "one" || got.own != "mine" || !strings.HasPrefix(got.order, "0042 ") {
		t.Errorf("attached, it started with %+v", got)
	}
	b.off()

	one, two := b.option("one"), b.option("two")
	wanted := strings.ReplaceAll(fmt.Sprintf("%s %s %s", two, one, entry), "Boot", "")
	_, err := b.service.Admin(t).SetBootOrder(t.Context(), b.call(), &generated.SetBootOrderRequest{BootOptionReference: []*generated.BootOptionReference{&two, &one, new(entry)}})
	b.must(err)
	b.set("Action", vendor, []byte("R"))
	for i, got := range b.boots(2, start) { // the second after the guest's reset
		if got.disk != "two" || got.own != "mine" || !strings.HasPrefix(got.order, wanted) {
			t.Errorf("boot %d with another order started %+v, not %s first", i+1, got, wanted)
		}
	}
	b.off()
	b.eventually(10*time.Second, "the log tells the reset from the end", func() bool { return b.told("MachineReset") == 1 && b.told("MachineOff") == 2 })

	if got := b.boots(1, start)[0]; got.disk != "two" || got.own != "mine" || !strings.HasPrefix(got.order, wanted) {
		t.Errorf("the second start with another order started %+v", got)
	}
	b.off()

	b.service.Kill()
	if out, err := b.virsh("start", name); err == nil || !strings.Contains(out, "biosv is away, which has the variables of "+name) {
		t.Errorf("without biosv: %v, %s", err, out)
	}
	b.defineAs(name+"-not", "", "")
	b.mustVirsh("start", "--paused", name+"-not") // it is not attached
	b.mustVirsh("destroy", name+"-not")
	b.serve()

	b.set("Action", vendor, []byte("W"))
	if got := b.boots(1, start)[0]; got.disk != "two" || !strings.HasPrefix(got.order, wanted) {
		t.Errorf("the third start with another order started %+v", got)
	}
	b.service.Kill()
	_, _ = b.virsh("reset", name) // which ends it, as one boot is one process: libvirt may miss QEMU's answer
	b.off()
	if got := b.boots(1, b.serve)[0]; got.disk != "two" {
		t.Errorf("reset while biosv was away, it started %+v", got)
	}
	b.service.Kill()
	b.must(b.daemon.Process.Signal(syscall.SIGTERM))
	b.must(b.daemon.Wait())
	b.libvirtd() // which is restarted as well
	b.serve()    // and the guest goes on
	b.eventually(10*time.Second, "it is found on", func() bool { s := b.domain().PowerState; return s != nil && *s == generated.PowerStateOn })

	b.mustVirsh("managedsave", name)
	b.eventually(10*time.Second, "it has diverged", func() bool { return strings.Contains(b.domain().Diverged, "saved its memory") })
	b.mustVirsh("start", name)
	b.eventually(10*time.Second, "it has diverged further", func() bool { return strings.Contains(b.domain().Diverged, "goes on from memory") })
	if b.told("MachineSaved") != 1 || b.told("MachineDiverged") != 2 {
		t.Error("the log does not tell of it")
	}
	b.set("Action", vendor, []byte("O")) // which it reads from us
	b.off()
	converged := func() bool { return b.domain().Diverged == "" }
	b.eventually(10*time.Second, "it has converged", converged)

	attached := b.definition()
	for what, change := range map[string]func(){
		"lacks <on_reboot>": func() {
			b.defineText(strings.Replace(attached, "<on_reboot>destroy<", "<on_reboot>restart<", 1))
		},
		"no such machine any more": func() { b.mustVirsh("undefine", "--keep-nvram", name) },
	} {
		change()
		b.eventually(10*time.Second, "it has diverged: "+what, func() bool { return strings.Contains(b.domain().Diverged, what) })
		b.defineText(attached)
		b.eventually(10*time.Second, "it has converged", converged)
	}

	b.set("Action", vendor, []byte("W"))
	b.boots(1, func() { b.reset(generated.ResetTypeOn) })
	if got := b.boots(1, func() { b.reset(generated.ResetTypeForceRestart) })[0]; got.disk != "two" || !strings.HasPrefix(got.order, wanted) {
		t.Errorf("after a restart it started %+v", got)
	}
	if _, err := b.service.Admin(t).DetachDomain(t.Context(), testbed.At(""), &generated.DetachDomainRequest{Name: new(generated.DomainName(name))}); !errors.As(err, new(*generated.ConflictFault)) {
		t.Errorf("it was detached while it runs: %v", err)
	}
	b.reset(generated.ResetTypeForceOff)
	b.off()

	b.set("Action", vendor, []byte("O"))
	b.set("Late", vendor, []byte("of its time here"))
	b.biosv("detach", name)
	if now := b.definition(); now != original {
		t.Errorf("it does not get back what it had: %s", cmp.Diff(original, now))
	}
	if now := stat(b, flash); now != owner {
		t.Errorf("its file of variables is %v, and was %v", now, owner)
	}
	content, err := os.ReadFile(flash)
	b.must(err)
	if !bytes.Contains(content, []byte("of its time here")) {
		t.Error("its file of variables does not have what was set")
	}
	if names, err := os.ReadDir(filepath.Join(b.dir, "run")); err != nil || slices.ContainsFunc(names, func(e os.DirEntry) bool { return e.Name() == name }) {
		t.Errorf("what it had of biosv stays: %v, %v", names, err)
	}
	b.must(b.service.Stop())
	if got := b.boots(1, start)[0]; got.disk != first[0].disk || got.own != "mine" {
		t.Errorf("given back, it started %+v", got)
	}
	b.off()
}

func (b *bench) reset(how generated.ResetType) {
	b.Helper()
	_, err := b.service.Admin(b).ResetSystem(b.Context(), b.call(), &generated.ResetSystemRequest{ResetType: &how})
	b.must(err)
}

// attributes are what a file has beside its content.
type attributes struct {
	uid, gid uint32
	mode     os.FileMode
}

func stat(b *bench, path string) attributes {
	b.Helper()
	info, err := os.Stat(path)
	b.must(err)
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		b.Fatal(path)
	}
	return attributes{s.Uid, s.Gid, info.Mode()}
}
