// Package guest starts virtual machines for tests: Debian's stock kernel under QEMU, with the first process of
// testdata/guest/init, which does what a script says and then what the test tells it over the console. There is
// no need of KVM, nor of rights: a guest with a disk, a network card and a TPM answers after 2 s of emulation.
//
// Begin with [Start]:
//
//	g := guest.Start(t, guest.Config{
//		Files:  map[string]string{"/bin/biosv": testbed.Program(t)},
//		Script: []string{"network 10.0.2.15/24", "start biosv /bin/biosv serve --listen 0.0.0.0:8443"},
//		Ports:  []int{8443},
//	})
//	g.Await(t, "biosv: ready on ")
//	https.Get("https://" + g.Address(t, 8443))
//
// A guest ends with its test. [Guest.Kill] is the power cut: what the guest had not flushed to its disks is gone.
// What reached a disk image stays there, and a [TPM] is a process of its own, so both go on with the next guest.
package guest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"biosv/internal/testbed"
)

// Config says what a guest has. The zero value is one processor, 512 MB, and nothing else.
type Config struct {
	Memory   int               // MB; 0 means 512
	Firmware Firmware          // the quickest unless another is named
	Modules  []string          // of the kernel, beside those that the rest of the Config needs
	Files    map[string]string // path in the guest -> file of this host
	Script   []string          // commands of testdata/guest/init
	Disks    []Disk            // /dev/vda, /dev/vdb, ...
	TPM      *TPM              // /dev/tpm0 and /dev/tpmrm0
	Ports    []int             // TCP ports of the guest (10.0.2.15) that this host reaches; it reaches nothing itself
	Args     []string          // further arguments of QEMU

	// Program is an EFI program in the form of a kernel, and takes the place of the kernel and all that is for it. Its
	// firmware is OVMF, it outlives resets, and Variables is its flash, as QEMU writes it (qcow2): so its states can be
	// kept ([Guest.Keep]).
	Program, Variables string
}

// Firmware starts the kernel.
type Firmware string

// The firmwares.
const (
	Qboot   Firmware = ""        // the quickest; it measures nothing
	SeaBIOS Firmware = "SeaBIOS" // not with a TPM: QEMU 7.2 lays the initrd over the ACPI tables then
	OVMF    Firmware = "OVMF"    // UEFI, which measures; Debian's, with an empty store of variables; it takes 8 s
)

const ovmfCode = "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"

// Disk is a raw image. The guest's flushes end in this host's page cache, which a killed QEMU does not take along.
type Disk struct {
	Path     string
	ReadOnly bool
	Log      string // file that takes a log of all writes, in the order and format of dm-log-writes; made anew
}

// Guest is a running virtual machine.
type Guest struct {
	dir     string
	process *process
	input   io.WriteCloser
	monitor *monitor

	mu    sync.Mutex
	lines []string      // all that the console said
	more  chan struct{} // closed, and made anew, with every line and at the end
	over  bool
}

const (
	// commandTime bounds what a guest may take for anything, under emulation on a machine that is busy.
	commandTime = 3 * time.Minute
	address     = "10.0.2.15"
)

// Start starts a guest. It returns when QEMU runs; [Guest.Await] waits for what the guest says. A missing program
// fails the test with the name of its package.
func Start(t testing.TB, c Config) *Guest {
	t.Helper()
	qemu := Tool(t, "qemu-system-x86_64")
	dir, err := os.MkdirTemp("", "guest") // a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	kernel := filepath.Join(testbed.Root, ".cache", "guest", "kernel")
	if c.Program == "" {
		for _, made := range []string{filepath.Join(kernel, "vmlinux"), filepath.Join(kernel, "..", "init")} {
			if _, err := os.Stat(made); err != nil {
				t.Fatalf("%v; make it with: sh testdata/guest/build.sh kernel init", err)
			}
		}
		if err := c.writeInitrd(filepath.Join(dir, "initrd"), kernel); err != nil {
			t.Fatal(err)
		}
	}
	args, err := c.arguments(dir, kernel)
	if err != nil {
		t.Fatal(err)
	}
	g := &Guest{dir: dir, more: make(chan struct{})}
	cmd := exec.Command(qemu, args...)
	console, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if g.input, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if g.process, err = start(cmd, func() { g.read(console) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Kill()
		if t.Failed() {
			t.Logf("the guest's console:\n%s\n%s", g.tail(80), complaints.String())
		}
	})
	if g.monitor, err = dialMonitor(filepath.Join(dir, "qmp"), g.process.ended); err != nil {
		t.Fatalf("QEMU's monitor: %v\n%s", err, complaints.String())
	}
	return g
}

// arguments are QEMU's.
func (c *Config) arguments(dir, kernel string) ([]string, error) {
	memory := c.Memory
	if memory == 0 {
		memory = 512
	}
	args := []string{
		"-machine", "q35", "-cpu", "max", "-m", strconv.Itoa(memory), "-nodefaults", "-no-user-config", "-display", "none",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-qmp", "unix:" + filepath.Join(dir, "qmp") + ",server=on,wait=off",
	}
	if c.Program != "" {
		args = append(args, "-kernel", c.Program, "-drive", ovmfCode, "-drive", "if=pflash,format=qcow2,file="+c.Variables)
		return append(args, c.Args...), nil
	}
	// On a host that is busy, Linux finds no timer, and tries others, of which it dies.
	args = append(args, "-no-reboot", "-initrd", filepath.Join(dir, "initrd"), "-append", "console=ttyS0 quiet panic=-1 cryptomgr.notests no_timer_check")
	switch c.Firmware {
	case Qboot:
		args = append(args, "-bios", "qboot.rom", "-kernel", filepath.Join(kernel, "vmlinux"))
	case SeaBIOS:
		args = append(args, "-kernel", filepath.Join(kernel, "vmlinux"))
	case OVMF: // it starts a kernel that is an EFI program
		if err := copyFile("/usr/share/OVMF/OVMF_VARS_4M.fd", filepath.Join(dir, "variables")); err != nil {
			return nil, fmt.Errorf("%w; it is in the package ovmf", err)
		}
		args = append(args, "-kernel", filepath.Join(kernel, "vmlinuz"),
			"-drive", ovmfCode, "-drive", "if=pflash,format=raw,file="+filepath.Join(dir, "variables"))
	default:
		return nil, fmt.Errorf("there is no firmware %q", c.Firmware)
	}
	for i, d := range c.Disks {
		node, err := d.nodes(i)
		if err != nil {
			return nil, err
		}
		args = append(args, node...)
	}
	if len(c.Ports) > 0 {
		netdev := "user,id=net0,restrict=on"
		for _, p := range c.Ports {
			netdev += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:0-%s:%d", address, p)
		}
		args = append(args, "-netdev", netdev, "-device", "virtio-net-pci,netdev=net0,romfile=")
	}
	if c.TPM != nil {
		args = append(args, "-chardev", "socket,id=tpm,path="+c.TPM.socket, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	}
	return append(args, c.Args...), nil
}

// nodes make the block device number i.
func (d Disk) nodes(i int) (args []string, err error) {
	name := "disk" + strconv.Itoa(i)
	add := func(node map[string]any) {
		text, e := json.Marshal(node)
		err = errors.Join(err, e)
		args = append(args, "-blockdev", string(text))
	}
	file := func(path string, readOnly bool) map[string]any {
		return map[string]any{"driver": "file", "filename": path, "read-only": readOnly, "cache": map[string]any{"no-flush": true}}
	}
	raw := map[string]any{"driver": "raw", "node-name": name, "file": file(d.Path, d.ReadOnly), "read-only": d.ReadOnly}
	if d.Log != "" {
		if e := os.WriteFile(d.Log, nil, 0o600); e != nil {
			return nil, e
		}
		raw["node-name"] = name + "-image"
		add(raw)
		add(map[string]any{"driver": "blklogwrites", "node-name": name, "file": name + "-image", "log": file(d.Log, false)})
	} else {
		add(raw)
	}
	return append(args, "-device", "virtio-blk-pci,drive="+name+",write-cache=on"), err
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o600)
}

// read takes what the console says until QEMU ends.
func (g *Guest) read(console io.Reader) {
	for lines := bufio.NewReader(console); ; {
		text, err := lines.ReadString('\n')
		g.mu.Lock()
		if text = strings.TrimRight(text, "\r\n"); text != "" {
			g.lines = append(g.lines, text)
		}
		g.over = err != nil
		close(g.more)
		g.more = make(chan struct{})
		g.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (g *Guest) tail(most int) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.lines[max(0, len(g.lines)-most):], "\n")
}

// Lines gives all that the console has said so far; of a guest that was killed, all that it ever said.
func (g *Guest) Lines() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lines[:len(g.lines):len(g.lines)]
}

// said is how many lines the console has said.
func (g *Guest) said() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.lines)
}

// Said is all that the console has said.
func (g *Guest) Said() string { return g.tail(math.MaxInt) }

// Await waits for a line of the console that contains text, from the first line on, and gives the line. A guest
// that ended before fails the test.
func (g *Guest) Await(t testing.TB, text string) string {
	t.Helper()
	line, _ := g.await(t, 0, func(line string) bool { return strings.Contains(line, text) }, strconv.Quote(text))
	return line
}

// AwaitNext waits for a line that contains text after act, which is called at once.
func (g *Guest) AwaitNext(t testing.TB, text string, act func()) string {
	t.Helper()
	from := g.said()
	act()
	line, _ := g.await(t, from, func(line string) bool { return strings.Contains(line, text) }, strconv.Quote(text))
	return line
}

// await gives the first line from one on that is wanted, and its number.
func (g *Guest) await(t testing.TB, from int, wanted func(string) bool, what string) (string, int) {
	t.Helper()
	late := time.After(commandTime)
	for next := from; ; {
		g.mu.Lock()
		lines, more, over := g.lines, g.more, g.over
		g.mu.Unlock()
		for ; next < len(lines); next++ {
			if wanted(lines[next]) {
				return lines[next], next
			}
		}
		if over {
			t.Fatalf("the guest ended and never said %s", what)
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("the guest did not say %s within %s", what, commandTime)
		}
	}
}

// Do has the guest obey a command of testdata/guest/init, which must succeed, and gives what the console said
// meanwhile. One command is done at a time.
func (g *Guest) Do(t testing.TB, command string) []string {
	t.Helper()
	command = strings.TrimSpace(command) // as the guest repeats it
	g.Await(t, "guest: ready")
	from := g.said()
	g.Tell(t, command)
	end, at := g.await(t, from, func(line string) bool {
		return line == "guest: done: "+command || strings.HasPrefix(line, "guest: failed: "+command)
	}, fmt.Sprintf("that %q is done", command))
	if !strings.HasPrefix(end, "guest: done") {
		t.Fatal(end)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lines[from:at:at]
}

// Tell tells a guest something that it may not live to answer.
func (g *Guest) Tell(t testing.TB, command string) {
	t.Helper()
	if _, err := io.WriteString(g.input, command+"\n"); err != nil {
		t.Fatalf("tell the guest %q: %v", command, err)
	}
}

// Show gives a file of the guest, of lines of text.
func (g *Guest) Show(t testing.TB, path string) []byte {
	t.Helper()
	var text []byte
	for _, line := range g.Do(t, "show "+path) {
		if content, ok := strings.CutPrefix(line, "= "); ok {
			text = append(append(text, content...), '\n')
		}
	}
	return text
}

var forwarded = regexp.MustCompile(`(?m)TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+10\.0\.2\.15\s+(\d+)`)

// Address gives the address of this host that leads to a port of the guest.
func (g *Guest) Address(t testing.TB, port int) string {
	t.Helper()
	table, err := g.monitor.human("info usernet")
	if err != nil {
		t.Fatalf("ask QEMU for its forwarded ports: %v", err)
	}
	for _, m := range forwarded.FindAllStringSubmatch(table, -1) {
		if m[2] == strconv.Itoa(port) {
			return "127.0.0.1:" + m[1]
		}
	}
	t.Fatalf("no port of this host leads to port %d of the guest; Config.Ports names those that are to be reached. QEMU has:\n%s", port, table)
	return ""
}

// Reset resets a guest with a [Config.Program].
func (g *Guest) Reset(t testing.TB) {
	t.Helper()
	if err := g.monitor.execute("system_reset", nil, nil); err != nil {
		t.Fatalf("reset the guest: %v", err)
	}
}

// Keep keeps the state of a guest with a [Config.Program], its flash and memory, under a name. [Guest.Return] goes back to it.
func (g *Guest) Keep(t testing.TB, name string) { g.snapshot(t, "savevm "+name) }

// Return puts the guest into a state that was kept.
func (g *Guest) Return(t testing.TB, name string) { g.snapshot(t, "loadvm "+name) }

func (g *Guest) snapshot(t testing.TB, command string) {
	t.Helper()
	if said, err := g.monitor.human(command); err != nil || said != "" {
		t.Fatalf("%s: %v %s", command, err, said)
	}
}

// Kill ends the guest as a power cut does.
func (g *Guest) Kill() { g.process.kill() }

// PowerOff has the guest stop its programs, take its disks off and switch itself off.
func (g *Guest) PowerOff(t testing.TB) {
	t.Helper()
	g.Await(t, "guest: ready")
	if _, err := io.WriteString(g.input, "poweroff\n"); err != nil {
		t.Fatalf("tell the guest to switch itself off: %v", err)
	}
	select {
	case <-g.process.ended:
		if err := g.process.err; err != nil {
			t.Fatalf("QEMU: %v", err)
		}
	case <-time.After(commandTime):
		t.Fatalf("the guest is not off after %s", commandTime)
	}
}
