//go:build guest

package vbios_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"biosv/internal/guest"
	"biosv/internal/testbed"
	"biosv/service/uefi"
	"biosv/service/uefi/frame"
	"biosv/vbios"
)

var own = uuid.MustParse("5e0ad1f4-7c52-4b3c-9d0c-2f6a1f7b8c11")

const (
	nonVolatile = 1
	bootService = 2
	runtime     = 4
)

type value struct {
	attributes uint32
	data       []byte
}

// memory answers a guest from a map, with the rules that a guest could not do without.
type memory struct {
	silence sync.RWMutex // held for writing: nobody answers
	late    bool         // nobody answers before the driver has been in silence
	deaf    bool         // nobody answers from when the firmware's shell runs and SecureBoot is asked for

	mu     sync.Mutex
	values map[uefi.Variable]value
	heard  []string // one line a call
}

func (m *memory) hear(phase frame.Phase, format string, a ...any) (end func()) {
	m.silence.RLock()
	m.mu.Lock()
	m.heard = append(m.heard, fmt.Sprintf(phase.String()+": "+format, a...))
	return func() { m.mu.Unlock(); m.silence.RUnlock() }
}

func (m *memory) visible(phase frame.Phase, v value) bool {
	return phase == frame.BootServices || v.attributes&runtime != 0
}

func (m *memory) GetVariable(ctx context.Context, phase frame.Phase, v uefi.Variable) (uint32, []byte, error) {
	if m.deaf && v.Name == "SecureBoot" && slices.Contains(m.calls(), shellRuns) {
		<-ctx.Done()
	}
	defer m.hear(phase, "get %s", v.Name)()
	found, ok := m.values[v]
	if !ok || !m.visible(phase, found) {
		return 0, nil, frame.NotFound
	}
	return found.attributes, found.data, nil
}

func (m *memory) GetNextVariableName(_ context.Context, phase frame.Phase, v uefi.Variable) (uefi.Variable, error) {
	defer m.hear(phase, "next %s", v.Name)()
	var list []uefi.Variable
	for name, value := range m.values {
		if m.visible(phase, value) {
			list = append(list, name)
		}
	}
	slices.SortFunc(list, func(a, b uefi.Variable) int {
		return strings.Compare(a.Vendor.String()+a.Name, b.Vendor.String()+b.Name)
	})
	next := 0
	if v.Name != "" {
		if next = slices.Index(list, v) + 1; next == 0 {
			return uefi.Variable{}, frame.InvalidParameter
		}
	}
	if next == len(list) {
		return uefi.Variable{}, frame.NotFound
	}
	return list[next], nil
}

func (m *memory) SetVariable(_ context.Context, phase frame.Phase, v uefi.Variable, attributes uint32, data []byte) error {
	defer m.hear(phase, "set %s", v.Name)()
	if len(data) == 0 {
		delete(m.values, v)
		return nil
	}
	m.values[v] = value{attributes, data}
	return nil
}

func (m *memory) QueryVariableInfo(_ context.Context, phase frame.Phase, attributes uint32) (uefi.Info, error) {
	defer m.hear(phase, "query")()
	return uefi.Info{Maximum: 1 << 20, Remaining: 1 << 19, Largest: 1 << 15}, nil
}

func (m *memory) ExitBootServices(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard = append(m.heard, "exit")
	return nil
}

func (m *memory) ResetSystem(_ context.Context, phase frame.Phase, r uefi.Reset) error {
	defer m.hear(phase, "reset %d", r.Type)()
	return nil
}

// shellRuns is what the shell does before it takes commands.
const shellRuns = "boot services: set uefiversion"

// calls gives what was heard so far.
func (m *memory) calls() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.heard)
}

func (m *memory) set(name string, vendor uuid.UUID, attributes uint32, data string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[uefi.Variable{Vendor: vendor, Name: name}] = value{attributes, []byte(data)}
}

func (m *memory) get(name string, vendor uuid.UUID) value {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[uefi.Variable{Vendor: vendor, Name: name}]
}

// service answers on a socket, as one process of BIOS.v does.
type service struct {
	stop context.CancelFunc
	done sync.WaitGroup
}

func serve(t *testing.T, socket string, m *memory, phase frame.Phase) *service {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &service{stop: stop}
	door := uefi.New(uefi.Config{Services: m, Phase: phase, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	context.AfterFunc(ctx, func() { l.Close() })
	s.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if m.late {
				inner := conn
				conn = lateConn{inner, sync.OnceFunc(func() { awaitSilence(inner) })}
			}
			_ = door.Serve(ctx, conn) // the guest went away, or the test did
		}
	})
	t.Cleanup(s.end)
	return s
}

// lateConn is a connection on which nothing is read before something else is done.
type lateConn struct {
	net.Conn
	first func()
}

func (c lateConn) Read(b []byte) (int, error) {
	c.first()
	return c.Conn.Read(b)
}

// awaitSilence reads the four times that a Hello is sent while the driver waits, and then some of its silence.
func awaitSilence(conn net.Conn) {
	d := frame.NewDecoder(conn)
	for range 10 {
		if _, err := d.Next(); err != nil {
			return
		}
	}
}

func (s *service) end() {
	s.stop()
	s.done.Wait()
}

// commandLine has the kernel reset through the firmware, which Linux does not do by itself, and log the memory
// attributes.
const commandLine = "console=ttyS0 quiet panic=-1 cryptomgr.notests no_timer_check reboot=efi efi=debug"

// machine is what QEMU needs for a thin virtual BIOS that asks on a socket.
func machine(t *testing.T, socket string) []string {
	t.Helper()
	rom := filepath.Join(filepath.Dir(socket), "rom")
	if err := os.WriteFile(rom, vbios.ROM, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{
		"-machine", "smm=off", "-global", "ICH9-LPC.disable_s3=1",
		"-chardev", "socket,id=vbios,path=" + socket + ",reconnect=1",
		"-device", "isa-serial,index=2,iobase=0x3e8,irq=11,chardev=vbios",
		"-device", "pci-testdev,romfile=" + rom,
	}
}

// socketPath is in a folder of its own, and short enough for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vbios")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "socket")
}

// programs builds what guests run: a path in the guest -> a file of this host.
func programs(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range []string{"efivars", "root"} {
		program := filepath.Join(t.TempDir(), name)
		build := exec.Command("go", "build", "-o", program, "./vbios/testdata/"+name)
		build.Dir, build.Env = testbed.Root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		files["/bin/"+name] = program
	}
	return files
}

// start starts a guest whose thin virtual BIOS asks on a socket; more are further files and arguments of QEMU.
func start(t *testing.T, socket string, files map[string]string, more ...string) *guest.Guest {
	t.Helper()
	return guest.Start(t, guest.Config{
		Memory:   256,
		Firmware: guest.OVMF,
		Modules:  []string{"efivarfs"},
		Files:    files,
		Args:     append(append(machine(t, socket), "-append", commandLine), more...),
	})
}

// run gives the only line that a command of the guest's program says.
func run(t *testing.T, g *guest.Guest, command string) string {
	t.Helper()
	said := g.Do(t, "run /bin/efivars "+command)
	if len(said) != 1 {
		t.Fatalf("%s said %q", command, said)
	}
	return strings.TrimPrefix(said[0], "| ")
}

// read gives a variable's attributes and data in hexadecimal, or the error's name, and how long that took.
func read(t *testing.T, g *guest.Guest, name string) (string, time.Duration) {
	t.Helper()
	said := run(t, g, "read "+name)
	content, took, _ := strings.Cut(said, " ")
	us, err := strconv.Atoi(took)
	if err != nil {
		t.Fatalf("read said %q", said)
	}
	return content, time.Duration(us) * time.Microsecond
}

// file is the name of a variable in efivarfs.
func file(name string) string { return name + "-" + own.String() }

// content is what such a file has.
func content(attributes uint32, data string) string {
	return fmt.Sprintf("%x%x", binary.LittleEndian.AppendUint32(nil, attributes), data)
}

const everywhere = nonVolatile | bootService | runtime

// One guest goes through its life: it takes what it needs 15 s to start.
func TestAGuestHasTheVariablesOfTheService(t *testing.T) {
	t.Parallel()
	whole := t
	socket := socketPath(t)
	m := &memory{values: map[uefi.Variable]value{}}
	m.set("Outside", own, everywhere, "one")
	m.set("FirmwareOnly", own, nonVolatile|bootService, "secret")
	s := serve(t, socket, m, frame.BootServices)
	began := time.Now()
	g := start(t, socket, programs(t))
	g.Await(t, "guest: ready")
	t.Logf("the guest was ready after %s", time.Since(began))

	t.Run("the firmware asks the service, until it says that the operating system takes over", func(t *testing.T) {
		heard := m.calls()
		exit := slices.Index(heard, "exit")
		if exit < 0 {
			t.Fatalf("it did not say so: %q", heard)
		}
		for _, want := range []string{"boot services: get BootOrder", "boot services: set ConOut", "boot services: get SecureBoot"} {
			if !slices.Contains(heard[:exit], want) {
				t.Errorf("there was no %q before: %q", want, heard[:exit])
			}
		}
		for i, call := range heard {
			if phase := "operating system: "; i != exit && strings.HasPrefix(call, phase) != (i > exit) {
				t.Errorf("call %d is %q; boot services ended with call %d", i, call, exit)
			}
		}
	})
	t.Run("its code can be executed and not written, and nothing else has changed", func(t *testing.T) {
		table := g.Do(t, "run /bin/efivars log memattr:")
		code := 0
		for _, entry := range table {
			m := attribute.FindStringSubmatch(entry)
			if m == nil {
				continue
			}
			from, _ := strconv.ParseUint(m[1], 16, 64)
			to, _ := strconv.ParseUint(m[2], 16, 64)
			protected, readOnly := strings.Contains(m[3], "XP"), strings.Contains(m[3], "RO")
			if protected == readOnly {
				t.Errorf("it can be written and executed, or neither: %s", entry)
			}
			if readOnly && to-from == codePages<<12-1 {
				code++
			}
		}
		if code != 1 {
			t.Errorf("%d ranges have the size of the driver's code:\n%s", code, strings.Join(table, "\n"))
		}
	})
	t.Run("the operating system lists what it may see", func(t *testing.T) {
		list := g.Do(t, "run /bin/efivars list")
		for name, want := range map[string]bool{"Outside": true, "FirmwareOnly": false} {
			if got := slices.Contains(list, "| "+file(name)); got != want {
				t.Errorf("%s is in the list: %t\n%q", name, got, list)
			}
		}
	})
	t.Run("what is set outside is read inside at once", func(t *testing.T) {
		for _, text := range []string{"one", "another", strings.Repeat("~}", 10000)} {
			m.set("Outside", own, everywhere, text)
			if got, took := read(t, g, file("Outside")); got != content(everywhere, text) {
				t.Errorf("%d bytes were set, and %.200s was read in %s", len(text), got, took)
			} else {
				t.Logf("%d bytes were read in %s", len(text), took)
			}
		}
		m.set("Outside", own, everywhere, "one")
		t.Logf("a read takes %s microseconds", run(t, g, "time "+file("Outside")+" 100"))
	})
	t.Run("what is written inside is there outside", func(t *testing.T) {
		for _, text := range []string{"new", "changed", strings.Repeat("x", 1500)} {
			g.Do(t, "run /bin/efivars write "+file("Inside")+" "+content(everywhere, text))
			if v := m.get("Inside", own); v.attributes != everywhere || string(v.data) != text {
				t.Errorf("%d bytes were written, and %x, %.200q arrived", len(text), v.attributes, v.data)
			}
		}
	})
	t.Run("a reader of the serial port does not get the answers", func(t *testing.T) {
		g.AwaitNext(t, "holding /dev/ttyS2", func() { g.Do(t, "start reader /bin/efivars hold /dev/ttyS2") })
		for range 5 {
			if got, _ := read(t, g, file("Outside")); got != content(everywhere, "one") {
				t.Errorf("%s was read", got)
			}
		}
		g.Do(t, "stop reader")
	})
	t.Run("silence is an error soon, and ends by itself", func(t *testing.T) {
		m.silence.Lock()
		for i, most := range []time.Duration{2 * time.Second, soon, soon, soon} {
			got, took := read(t, g, file("Outside"))
			if got != "EIO" || took > most+busy {
				t.Errorf("read %d gave %s after %s; it may take %s", i, got, took, most)
			}
			t.Logf("read %d failed after %s", i, took)
		}
		m.silence.Unlock()
		got, took := read(t, g, file("Outside"))
		for deadline := time.Now().Add(10 * time.Second); got == "EIO" && time.Now().Before(deadline); {
			got, took = read(t, g, file("Outside"))
		}
		if got != content(everywhere, "one") {
			t.Errorf("afterwards %s was read", got)
		}
		t.Logf("the first read afterwards took %s", took)
	})
	t.Run("a service that starts anew is not noticed", func(t *testing.T) {
		s.end()
		serve(whole, socket, m, frame.OperatingSystem)
		got, took := read(t, g, file("Outside"))
		if got != content(everywhere, "one") {
			t.Errorf("%s was read", got)
		}
		t.Logf("it took %s", took)
	})
	t.Run("a reset is reported", func(t *testing.T) {
		g.Do(t, "start reset /bin/efivars reset")
		for deadline := time.Now().Add(20 * time.Second); !slices.Contains(m.calls(), "operating system: reset 0"); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("it was not: %q", m.calls())
			}
		}
	})
}

// attribute is how Linux shows an entry of the memory attributes table.
var attribute = regexp.MustCompile(`memattr:  0x([0-9a-f]+)-0x([0-9a-f]+) \[Runtime (?:Code|Data)(.*)\]`)

const codePages = 5

const (
	soon = 10 * time.Millisecond
	busy = 300 * time.Millisecond // what a machine with other work to do may add
)

// The firmware's shell is asked to start a program that nobody signed: the driver itself, which is loaded already and
// says so. As there is no Secure Boot, it is let run, if that is what the service says.
func TestFirmwareStartsNothingUnsignedWhileNobodyAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		m    *memory
		says string
	}{
		"answered": {&memory{}, "Already started"},
		"silence":  {&memory{deaf: true}, "is not an image"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			console, err := startFirmware(t, c.m, "load fs0:\\driver.efi\r\nreset -s\r\n").wait()
			if err != nil || !strings.Contains(console, c.says) {
				t.Errorf("%v; the console does not say %q:\n%s\nheard: %q", err, c.says, console, c.m.calls())
			}
		})
	}
}

// Firmware that was not answered from the beginning asks for the first variable until it is.
func TestFirmwareIsAnsweredAsSoonAsTheServiceIsThere(t *testing.T) {
	t.Parallel()
	m := &memory{late: true}
	f := startFirmware(t, m, "reset -s\r\n")
	for deadline := time.Now().Add(commandTime); !slices.Contains(m.calls(), "boot services: set BootOrder"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.kill()
			console, err := f.wait()
			t.Fatalf("%v; after %s, the calls are %q:\n%s", err, commandTime, m.calls(), console)
		}
	}
}

const commandTime = 5 * time.Minute // on a machine that is busy

// firmware is a guest without an operating system.
type firmware struct {
	kill    func()
	ended   chan struct{}
	console []byte
	err     error
}

func (f *firmware) wait() (console string, err error) {
	<-f.ended
	return string(f.console), f.err
}

// startFirmware starts OVMF with a disk that has the driver, as driver.efi, and a script for the shell.
func startFirmware(t *testing.T, m *memory, script string) *firmware {
	t.Helper()
	socket := socketPath(t)
	dir := filepath.Dir(socket)
	m.values = map[uefi.Variable]value{}
	serve(t, socket, m, frame.BootServices)
	variables, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		t.Fatalf("%v; it is in the package ovmf", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "disk"), 0o755); err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{
		"variables": variables, "disk/driver.efi": vbios.ROM[binary.LittleEndian.Uint16(vbios.ROM[0x16:]):], "disk/startup.nsh": []byte(script),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithTimeout(context.Background(), commandTime)
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{
		"-machine", "q35", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
		"-drive", "if=pflash,format=raw,file=" + filepath.Join(dir, "variables"),
		"-drive", "if=none,id=disk,format=raw,file=fat:rw:" + filepath.Join(dir, "disk"), "-device", "virtio-blk-pci,drive=disk,romfile=",
	}, machine(t, socket)...)...)
	f := &firmware{kill: stop, ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		f.console, f.err = qemu.CombinedOutput()
	}()
	t.Cleanup(func() { f.kill(); <-f.ended })
	return f
}
