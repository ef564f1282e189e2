//go:build guest

package qemu_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"biosv/generated"
	"biosv/internal/guest"
	"biosv/internal/testbed"
)

const (
	vendor     = "5e0ad1f4-7c52-4b3c-9d0c-2f6a1f7b8c11"
	everywhere = "07000000" // the attributes NV, BS and RT, as efivarfs has them
	global     = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	// There is a console without a serial port too, and an NMI is a panic.
	arguments = "console=tty0 console=ttyS0 quiet panic=-1 cryptomgr.notests no_timer_check unknown_nmi_panic"
)

// slow is how long a guest may take for anything, under emulation on a machine that is busy.
const slow = 3 * time.Minute

// house is a service with virtual machines.
type house struct {
	*testing.T
	service *testbed.Service
	images  string
	biosv   string                     // the program; empty means that it is built
	path    string                     // folder that QEMU is looked for in first; empty means that there is none
	seen    map[string]map[string]bool // values of attributes that made a difference in a guest
}

// saw says that a guest has seen what a value of an attribute is for.
func (h *house) saw(attribute, value string) {
	if h.seen == nil {
		h.seen = map[string]map[string]bool{}
	}
	if h.seen[attribute] == nil {
		h.seen[attribute] = map[string]bool{}
	}
	h.seen[attribute][value] = true
}

// newHouse starts a service, which has a kernel and an initrd for its machines.
func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{T: t, images: t.TempDir()}
	h.initrd("initrd", "run /bin/efivars save /proc/tty/driver/serial Ports-"+vendor) // also where there is no console
	h.serve("")
	return h
}

// initrd makes an image for machines whose guests begin with a script.
func (h *house) initrd(name string, script ...string) {
	h.Helper()
	files := map[string]string{}
	for name, source := range map[string]string{"/bin/efivars": "./vbios/testdata/efivars", "/bin/root": "./vbios/testdata/root", "/bin/crash": "./machine/qemu/testdata/crash", "/bin/watchdog": "./machine/qemu/testdata/watchdog"} {
		files[name] = filepath.Join(h.TempDir(), "program")
		h.run(append(os.Environ(), "CGO_ENABLED=0"), "go", "build", "-o", files[name], source)
	}
	kernel := guest.Image(h, guest.Config{
		Modules: []string{"efivarfs", "pvpanic-mmio", "i6300esb", "button", "evdev", "virtio_pci", "virtio_balloon", "virtio_blk"}, Files: files, Script: script,
	}, filepath.Join(h.images, name))
	content, err := os.ReadFile(kernel)
	if err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.images, "kernel"), content, 0o600); err != nil {
		h.Fatal(err)
	}
}

// run runs a program in the root of the tree, with an environment.
func (h *house) run(env []string, program string, args ...string) {
	h.Helper()
	cmd := exec.Command(guest.Tool(h, program), args...)
	cmd.Dir, cmd.Env = testbed.Root, env
	if out, err := cmd.CombinedOutput(); err != nil {
		h.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// serve starts the service, over the data of the one before.
func (h *house) serve(data string) {
	h.Helper()
	o := testbed.Options{Program: h.biosv, Data: data, Args: []string{"--tpm", "software", "--pool", "images=" + h.images}}
	if h.path != "" {
		o.Env = []string{"PATH=" + h.path + ":" + os.Getenv("PATH")}
	}
	h.service = testbed.Start(h.T, o)
}

// machine is one of them.
type machine struct {
	*house
	name    string
	console *guest.Guest
	closed  chan struct{}     // when the console is
	heard   func(line string) // is told what the console says, if it is not nil
}

func image(name string) *generated.ImageName { return new(generated.ImageName("images/" + name)) }

// create makes a machine that starts the tests' kernel, unless it is made otherwise.
func (h *house) create(name string, otherwise ...func(*generated.CreateDomainRequest)) *machine {
	h.Helper()
	request := &generated.CreateDomainRequest{
		Name: new(generated.DomainName(name)), DomainKind: new(generated.DomainKindQemu), MemoryMiB: new(generated.MemoryMiB(256)),
		KernelImage: image("kernel"), InitrdImage: image("initrd"), KernelArguments: arguments,
	}
	for _, change := range otherwise {
		change(request)
	}
	if _, err := h.service.Admin(h).CreateDomain(h.Context(), testbed.At(""), request); err != nil {
		h.Fatal(err)
	}
	m := &machine{house: h, name: name}
	h.Cleanup(func() {
		if pid, err := m.pid(); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it has ended where the test went well
		}
	})
	return m
}

func (m *machine) call() generated.Call { return testbed.At(m.name) }

// pid is that of QEMU.
func (m *machine) pid() (int, error) {
	text, err := os.ReadFile(filepath.Join(m.service.Data, "run", m.name, "pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func (m *machine) process() int {
	m.Helper()
	pid, err := m.pid()
	if err != nil {
		m.Fatal(err)
	}
	return pid
}

// user is the one that QEMU has, in all of the kernel's senses.
func (m *machine) user() (id int) {
	m.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.process()))
	if err != nil {
		m.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nUid:")
	line, _, _ := strings.Cut(rest, "\n")
	fields := strings.Fields(line)
	if len(fields) != 4 || slices.ContainsFunc(fields, func(f string) bool { return f != fields[0] }) {
		m.Fatalf("the users of %s are %q", m.name, fields)
	}
	if id, err = strconv.Atoi(fields[0]); err != nil {
		m.Fatal(err)
	}
	return id
}

func (m *machine) reset(how generated.ResetType) {
	m.Helper()
	if _, err := m.service.Admin(m).ResetSystem(m.Context(), m.call(), &generated.ResetSystemRequest{ResetType: &how}); err != nil {
		m.Fatal(err)
	}
}

func (m *machine) power() generated.PowerState {
	m.Helper()
	reply, err := m.service.Admin(m).GetPowerState(m.Context(), m.call(), &generated.GetPowerStateRequest{})
	if err != nil {
		m.Fatal(err)
	}
	return *reply.PowerState
}

// within waits until something is so.
func (m *machine) within(most time.Duration, what string, so func() bool) {
	m.Helper()
	for began := time.Now(); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > most {
			m.Fatalf("%s: not within %s", what, most)
		}
	}
}

// watched tells when its reader sees the end, and the lines that it sees.
type watched struct {
	net.Conn
	closed chan struct{}
	line   []byte // the beginning of the next one
	heard  func(string)
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if w.heard != nil {
		w.line = append(w.line, b[:n]...)
		for {
			line, rest, whole := bytes.Cut(w.line, []byte("\n"))
			if !whole {
				break
			}
			w.heard(strings.TrimSpace(string(line)))
			w.line = rest
		}
	}
	if err != nil {
		select {
		case <-w.closed:
		default:
			close(w.closed)
		}
		if err != io.EOF {
			err = io.EOF
		}
	}
	return n, err
}

// ready takes the consoles of the present boots, and waits until the guests obey.
func ready(machines ...*machine) {
	for _, m := range machines {
		m.Helper()
		m.connect()
	}
	for _, m := range machines {
		m.console.Await(m, "guest: ready")
	}
}

// connect takes the console of the present boot; what it said before is lost.
func (m *machine) connect() {
	m.Helper()
	folder, err := os.Open(filepath.Join(m.service.Data, "run", m.name)) // the path may be too long for a socket
	if err != nil {
		m.Fatal(err)
	}
	defer folder.Close()
	var conn net.Conn
	m.within(5*time.Second, "connect to the console", func() bool {
		conn, err = net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/console", folder.Fd()))
		return err == nil
	})
	m.closed = make(chan struct{})
	m.console = guest.Console(m, &watched{Conn: conn, closed: m.closed, heard: m.heard})
}

// leave has the guest leave, and gives the time when its console was closed.
func (m *machine) leave(command string) time.Time {
	m.Helper()
	m.console.Tell(m, command)
	m.awaitEnd(command)
	return time.Now()
}

func (m *machine) awaitEnd(command string) {
	m.Helper()
	select {
	case <-m.closed:
	case <-time.After(60 * time.Second):
		m.Fatalf("it did not leave by %s", command)
	}
}

// read gives what the guest's file of a variable has, or the name of the error.
func (m *machine) read(name string) string {
	m.Helper()
	said := m.console.Do(m, "run /bin/efivars read "+name+"-"+vendor)
	if len(said) != 1 {
		m.Fatalf("the guest said %q", said)
	}
	content, _, _ := strings.Cut(strings.TrimPrefix(said[0], "| "), " ")
	return content
}

func (m *machine) write(name string, value []byte) {
	m.Helper()
	m.console.Do(m, fmt.Sprintf("run /bin/efivars write %s-%s %s%x", name, vendor, everywhere, value))
}

// awaitPanic waits until QEMU has written down that the operating system of the present boot panicked.
func (m *machine) awaitPanic() {
	m.Helper()
	events := filepath.Join(m.service.Data, "run", m.name, "events.out")
	m.within(30*time.Second, "a panic", func() bool {
		text, err := os.ReadFile(events)
		return err == nil && bytes.Contains(text, []byte("GUEST_PANICKED"))
	})
}

func (m *machine) set(name string, value []byte) {
	m.Helper()
	m.setWith(name, value, generated.VariableAttributeNonVolatile, generated.VariableAttributeBootServiceAccess, generated.VariableAttributeRuntimeAccess)
}

func (m *machine) setWith(name string, value []byte, attributes ...generated.VariableAttribute) {
	m.Helper()
	request := &generated.SetVariableRequest{Name: new(generated.VariableName(name)), VendorGuid: new(generated.VendorGuid(vendor)), VariableData: value}
	for _, a := range attributes {
		request.VariableAttribute = append(request.VariableAttribute, &a)
	}
	if _, err := m.service.Admin(m).SetVariable(m.Context(), m.call(), request); err != nil {
		m.Fatal(err)
	}
}

func (m *machine) get(name string) []byte {
	m.Helper()
	reply, err := m.service.Admin(m).GetVariable(m.Context(), m.call(), &generated.GetVariableRequest{
		Name: new(generated.VariableName(name)), VendorGuid: new(generated.VendorGuid(vendor)),
	})
	if err != nil {
		m.Fatal(err)
	}
	return reply.VariableData
}

func (m *machine) setAttributes(values ...string) {
	m.Helper()
	request := &generated.SetAttributesRequest{}
	for i := 0; i+1 < len(values); i += 2 {
		request.Attribute = append(request.Attribute, &generated.AttributeValue{Name: values[i], NewValue: []string{values[i+1]}})
	}
	if _, err := m.service.Admin(m).SetAttributes(m.Context(), m.call(), request); err != nil {
		m.Fatal(err)
	}
}

// told says whether the event log has a record.
func (m *machine) told(id string) bool { m.Helper(); return m.records(id) > 0 }

// records says how many the event log has.
func (m *machine) records(id string) (n int) {
	m.Helper()
	reply, err := m.service.Admin(m).GetEventLog(m.Context(), m.call(), &generated.GetEventLogRequest{MostRecords: new(generated.RecordLimit(1000))})
	if err != nil {
		m.Fatal(err)
	}
	for _, r := range reply.Record {
		if r.MessageId == id {
			n++
		}
	}
	return n
}

// Two machines go through their lives. A start takes 10 s of emulation, so they live once for all.
func TestVirtualMachinesHaveTheirVariablesHere(t *testing.T) {
	h := newHouse(t)
	one, two := h.create("one"), h.create("two", func(r *generated.CreateDomainRequest) {
		r.MemoryMiB, r.ProcessorCount = new(generated.MemoryMiB(384)), new(generated.ProcessorCount(2))
	})
	one.setAttributes("SystemManufacturer", "Example, Ltd.", "SystemProductName", "Blade", "SystemFamily", "Blades", "SkuNumber", "B-7", "SerialNumber", "0815", "AssetTag", "rack 7",
		"BootMenu", "true")
	for _, m := range []*machine{one, two} {
		m.set("Outside", []byte("before the start of "+m.name))
		m.reset(generated.ResetTypeOn)
		if state := m.power(); state != generated.PowerStateOn {
			t.Errorf("%s is %s", m.name, state)
		}
	}
	began := time.Now()
	ready(one, two)
	t.Logf("both were ready after %s", time.Since(began))

	t.Run("their operating systems run", func(t *testing.T) {
		for _, m := range []*machine{one, two} {
			reply, err := h.service.Admin(t).GetPowerState(t.Context(), m.call(), &generated.GetPowerStateRequest{})
			if err != nil || reply.GuestPhase == nil || *reply.GuestPhase != generated.GuestPhaseOperatingSystem {
				t.Errorf("the phase of %s is %v, %v", m.name, reply, err)
			}
		}
	})
	t.Run("each has a user of its own, who opens nothing of others", func(t *testing.T) {
		if os.Geteuid() != 0 {
			for _, m := range []*machine{one, two} {
				if id := m.user(); id != os.Geteuid() {
					t.Errorf("%s has the user %d, though nobody but root can give it one", m.name, id)
				}
			}
			t.Fatal("what the user of a machine can open is seen only where root gives each machine one: run the tests as root")
		}
		if one.user() == two.user() || one.user() == 0 || two.user() == 0 {
			t.Fatalf("their users are %d and %d", one.user(), two.user())
		}
		data := h.service.Data
		image := filepath.Join(h.images, "kernel")
		for _, path := range []string{
			filepath.Join(data, "run", "two", "vbios"), filepath.Join(data, "run", "two", "qmp"), filepath.Join(data, "run", "two", "variables.fd"),
			filepath.Join(data, "state.db"), h.service.KeyFile(), image,
		} {
			if _, err := os.Stat(path); err != nil {
				t.Fatal(err)
			}
			probe := exec.Command("/bin/sh", "-c", "cd \"$1\"; test -r \"$2\" || test -w \"$2\" || cat \"$2\"", "probe", "/", path)
			probe.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(one.user()), Gid: uint32(one.user())}}
			if out, err := probe.CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
				t.Errorf("the user of one opens %s: %v, %s", path, err, out)
			}
		}
	})
	t.Run("what is set outside is read inside at once, and the other way round", func(t *testing.T) {
		for _, m := range []*machine{one, two} {
			if got, want := m.read("Outside"), everywhere+hex.EncodeToString([]byte("before the start of "+m.name)); got != want {
				t.Errorf("%s reads %s, not %s", m.name, got, want)
			}
			for _, value := range [][]byte{[]byte(m.name), {0, 0x7d, 0x7e, 0xff}, bytes.Repeat([]byte{'x'}, 1000)} {
				m.set("Outside", value)
				if got, want := m.read("Outside"), everywhere+hex.EncodeToString(value); got != want {
					t.Errorf("%s reads %.100s, not %.100s", m.name, got, want)
				}
				if len(value) > 1000 {
					value = value[:1000] // a line of the console is no longer
				}
				m.write("Inside", value)
				if got := m.get("Inside"); !bytes.Equal(got, value) {
					t.Errorf("%s wrote %.100x, and it is %.100x", m.name, value, got)
				}
			}
		}
	})
	t.Run("neither sees the other's", func(t *testing.T) {
		one.write("Mine", []byte("one"))
		two.write("Inside", []byte("two"))
		if got := two.read("Mine"); got != "ENOENT" {
			t.Errorf("two reads %s", got)
		}
		if got := one.get("Inside"); bytes.Equal(got, []byte("two")) {
			t.Error("one has what two wrote")
		}
	})
	t.Run("a guest outlives the service, and has its variables again within 5 s", func(t *testing.T) {
		process := one.process()
		h.service.Kill()
		if got := one.read("Outside"); got != "EIO" {
			t.Errorf("without the service it reads %s", got)
		}
		h.serve(h.service.Data)
		began := time.Now()
		for _, m := range []*machine{one, two} {
			m.within(5*time.Second, "variables of "+m.name, func() bool {
				time.Sleep(90 * time.Millisecond)
				return strings.HasPrefix(m.read("Outside"), everywhere)
			})
			t.Logf("%s has its variables %s after the start", m.name, time.Since(began))
			if state := m.power(); state != generated.PowerStateOn {
				t.Errorf("%s is %s", m.name, state)
			}
		}
		if one.process() != process {
			t.Error("it is another process")
		}
	})
	t.Run("a reset from inside is a new process, which has what the one before wrote", func(t *testing.T) {
		process := one.process()
		one.write("Inside", []byte("of the first boot"))
		left := one.leave("reboot")
		one.within(time.Second, "a new process", func() bool { pid, err := one.pid(); return err == nil && pid != process })
		t.Logf("it was there %s after the old one was gone", time.Since(left))
		if !one.told("BiosV.1.0.MachineReset") {
			t.Error("the log does not tell of it")
		}
		ready(one)
		if got, want := one.read("Inside"), everywhere+hex.EncodeToString([]byte("of the first boot")); got != want {
			t.Errorf("it reads %s, not %s", got, want)
		}
		if state := one.power(); state != generated.PowerStateOn {
			t.Errorf("it is %s", state)
		}
	})
	t.Run("a panic is seen within 1 s, and the machine stands still", func(t *testing.T) {
		two.console.Tell(t, "start crash /bin/crash")
		two.awaitPanic()
		began := time.Now()
		two.within(time.Second, "paused", func() bool { return two.power() == generated.PowerStatePaused })
		t.Logf("it is Paused %s after QEMU has said so", time.Since(began))
		two.within(time.Second, "a record", func() bool { return two.records("BiosV.1.0.OperatingSystemPanicked") == 1 })
	})
	t.Run("a killed QEMU is off", func(t *testing.T) {
		if err := syscall.Kill(two.process(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		two.within(time.Second, "off", func() bool { return two.power() == generated.PowerStateOff })
		two.within(time.Second, "a record", func() bool { return two.told("BiosV.1.0.MachineKilled") })
	})
	t.Run("what happened while the service was away is made up for", func(t *testing.T) {
		two.setAttributes("SystemManufacturer", "Another, Ltd.", "SystemProductName", "Tower", "SystemFamily", "Towers", "SkuNumber", "T-1", "SerialNumber", "4711", "AssetTag", "rack 8",
			"ProcessorAes", "false", "ProcessorRandom", "false", "ProcessorVirtualization", "false", "RtcOffsetMinutes", "-150", "Watchdog", "true", "PanicAction", "Restart")
		two.reset(generated.ResetTypeOn) // one that was killed starts as any other
		was := map[*machine]int{one: one.process(), two: two.process()}
		h.service.Kill()
		one.leave("reboot")
		if err := syscall.Kill(was[two], syscall.SIGKILL); err != nil { // as if the host had lost its power
			t.Fatal(err)
		}
		for m, process := range was { // or the service would see it end
			m.within(slow, "the end of its process", func() bool {
				line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", process)) // of a process that nobody has waited for it is empty
				return err != nil || len(line) == 0
			})
		}
		h.serve(h.service.Data)
		for m, process := range was {
			m.within(5*time.Second, "a new process", func() bool { pid, err := m.pid(); return err == nil && pid != process })
		}
		ready(one, two)
		if state := one.power(); state != generated.PowerStateOn {
			t.Errorf("it is %s", state)
		}
		h.saw("PowerRestorePolicy", "LastState")
	})
	t.Run("attributes are seen inside", func(t *testing.T) {
		one.look(t)
		two.look(t)
	})
	t.Run("load and memory are measured", func(t *testing.T) {
		one.within(slow, "what the guest says of its memory", func() bool {
			reply, err := h.service.Admin(t).GetThermal(t.Context(), one.call(), &generated.GetThermalRequest{})
			if err != nil {
				t.Fatal(err)
			}
			readings := map[string]generated.SensorReading{}
			for _, s := range reply.Thermal.Sensor {
				readings[s.Name] = *s.Reading
			}
			_, load := readings["CPU 0"]
			if held := readings["Memory on the Host"]; !load || held < 10 || held > 100 {
				t.Fatalf("it measures %v", readings)
			}
			used, says := readings["Memory"]
			if says && (used < 5 || used > 95) {
				t.Errorf("of the memory is used %d%%", used)
			}
			return says
		})
	})
	t.Run("an operating system restarts when it is asked to, and by its watchdog when it is silent", func(t *testing.T) {
		was := map[*machine]int{one: one.process(), two: two.process()}
		one.reset(generated.ResetTypeGracefulRestart)
		two.console.Tell(t, "start watchdog /bin/watchdog")
		for m, process := range was {
			m.within(30*time.Second, "a new process", func() bool { pid, err := m.pid(); return err == nil && pid != process })
		}
		one.console.Await(t, "guest: the power button was pushed")
		for m, id := range map[*machine]string{one: "BiosV.1.0.MachineOff", two: "BiosV.1.0.WatchdogFired"} {
			if !m.told(id) {
				t.Errorf("the log of %s does not tell of it", m.name)
			}
		}
		h.saw("WatchdogAction", "Restart")
		ready(one, two)
	})
	t.Run("a machine that was turned off inside is off", func(t *testing.T) {
		records := one.records("BiosV.1.0.MachineOff")
		one.reset(generated.ResetTypeGracefulShutdown)
		one.within(30*time.Second, "off", func() bool { return one.power() == generated.PowerStateOff })
		one.within(time.Second, "a record", func() bool { return one.records("BiosV.1.0.MachineOff") == records+1 })
	})
	t.Run("a panic is seen, and the machine starts again where it is to", func(t *testing.T) {
		process, records := two.process(), two.records("BiosV.1.0.OperatingSystemPanicked")
		two.setAttributes("PanicAction", "StandStill", "BootMenu", "true", "BootMenuSeconds", "1") // from the next start on
		two.console.Tell(t, "start crash /bin/crash")
		two.within(10*time.Second, "a new process", func() bool { pid, err := two.pid(); return err == nil && pid != process })
		if n := two.records("BiosV.1.0.OperatingSystemPanicked"); n != records+1 {
			t.Errorf("the log tells of %d panics, and told of %d before", n, records)
		}
		h.saw("PanicAction", "Restart")
		ready(two)
		two.look(t)
	})
	t.Run("or stands still until it is taken its power, also when nobody saw it", func(t *testing.T) {
		records := two.records("BiosV.1.0.OperatingSystemPanicked")
		h.service.Kill() // which is not there to see it
		two.console.Tell(t, "start crash /bin/crash")
		two.awaitPanic()
		h.serve(h.service.Data)
		two.within(10*time.Second, "paused", func() bool { return two.power() == generated.PowerStatePaused })
		two.within(time.Second, "a record", func() bool { return two.records("BiosV.1.0.OperatingSystemPanicked") == records+1 })
		h.saw("PanicAction", "StandStill")
		two.reset(generated.ResetTypeForceOff)
		if state := two.power(); state != generated.PowerStateOff {
			t.Errorf("it is %s", state)
		}
	})
	three := h.create("three", firmwareOnly)
	t.Run("the firmware offers to start from the network as it is told", func(t *testing.T) {
		four := h.create("four", firmwareOnly)
		four.setAttributes("NetworkBoot", "HTTP")
		for _, m := range []*machine{three, four} {
			m.reset(generated.ResetTypeOn)
		}
		for m, want := range map[*machine]string{three: "All", four: "HTTP"} {
			var offers string
			m.within(slow, "boot options", func() bool { offers = m.offers(); return strings.Contains(offers, "EFI Internal Shell") })
			if pxe, http := strings.Contains(offers, "PXEv4"), strings.Contains(offers, "HTTPv4"); pxe != (want == "All") || !http {
				t.Errorf("where it is %s, the firmware offers %s", want, offers)
			}
			h.saw("NetworkBoot", want)
			m.reset(generated.ResetTypeForceOff)
		}
		three.setAttributes("NetworkBoot", "Disabled")
		three.reset(generated.ResetTypeOn)
		three.within(slow, "no boot options of the network", func() bool {
			offers := three.offers()
			return strings.Contains(offers, "EFI Internal Shell") && !strings.Contains(offers, "PXEv4") && !strings.Contains(offers, "HTTPv4")
		})
		h.saw("NetworkBoot", "Disabled")
		three.reset(generated.ResetTypeForceOff)
	})
	const port = "0: uart:%s port:000003F8" // the first one, as it stands in what each boot saves
	t.Run("power returns as the policy says", func(t *testing.T) {
		if ports := string(two.get("Ports")); !strings.Contains(ports, fmt.Sprintf(port, "16550A")) {
			t.Errorf("its ports were %s", ports)
		}
		one.setAttributes("Watchdog", "true", "WatchdogAction", "PowerOff")
		two.setAttributes("PowerRestorePolicy", "AlwaysOn", "SerialConsole", "false", "PanicAction", "PowerOff")
		h.service.Kill()
		h.serve(h.service.Data)
		two.within(5*time.Second, "on", func() bool { return two.power() == generated.PowerStateOn })
		h.saw("PowerRestorePolicy", "AlwaysOn")
		if state := one.power(); state != generated.PowerStateOff {
			t.Errorf("one, which was turned off, is %s", state)
		}
	})
	t.Run("a watchdog turns the machine off where it is to", func(t *testing.T) {
		one.reset(generated.ResetTypeOn)
		ready(one)
		one.leave("start watchdog /bin/watchdog")
		one.within(time.Second, "off", func() bool { return one.power() == generated.PowerStateOff })
		h.saw("WatchdogAction", "PowerOff")
	})
	t.Run("a machine without a serial port has none", func(t *testing.T) {
		two.within(slow, "it has no serial port", func() bool { return strings.Contains(string(two.get("Ports")), fmt.Sprintf(port, "unknown")) })
		h.saw("SerialConsole", "false")
	})
	t.Run("an NMI is a panic inside, which takes the power where it is to", func(t *testing.T) {
		two.reset(generated.ResetTypeNmi)
		two.within(slow, "off", func() bool { return two.power() == generated.PowerStateOff })
		h.saw("PanicAction", "PowerOff")
	})
	t.Run("a machine that is to stay off stays off", func(t *testing.T) {
		one.setAttributes("PowerRestorePolicy", "AlwaysOff")
		two.setAttributes("PowerRestorePolicy", "LastState")
		one.reset(generated.ResetTypeOn)
		process := one.process()
		h.service.Kill()
		if err := syscall.Kill(process, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		h.serve(h.service.Data)
		one.within(5*time.Second, "a record", func() bool { return one.told("BiosV.1.0.MachineKilled") })
		if state := one.power(); state != generated.PowerStateOff {
			t.Errorf("it is %s", state)
		}
		h.saw("PowerRestorePolicy", "AlwaysOff")
	})
	t.Run("no attribute is without effect", func(t *testing.T) {
		reply, err := h.service.Admin(t).GetAttributeRegistry(t.Context(), three.call(), &generated.GetAttributeRegistryRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range reply.Definition {
			seen := slices.Sorted(maps.Keys(h.seen[d.Name]))
			most := 2
			switch {
			case d.ReadOnly:
				most = 1
			case *d.AttributeKind == generated.AttributeKindEnumeration:
				most = len(d.PossibleValue)
			}
			if len(seen) < most {
				t.Errorf("%s: %d of its values were to be seen inside, and were %q", d.Name, most, seen)
			}
		}
		t.Logf("%d attributes", len(reply.Definition))
	})
}

// firmwareOnly makes a machine that starts nothing but its firmware, and has a network.
func firmwareOnly(r *generated.CreateDomainRequest) {
	r.KernelImage, r.InitrdImage, r.KernelArguments = nil, nil, ""
	r.MemoryMiB, r.NetworkMode = new(generated.MemoryMiB(128)), new(generated.NetworkModeUser)
}

// offers gives what the machine's boot options are called, as far as that is ASCII.
func (m *machine) offers() string {
	m.Helper()
	var text strings.Builder
	admin := m.service.Admin(m)
	for n := range 8 {
		reply, err := admin.GetVariable(m.Context(), m.call(), &generated.GetVariableRequest{
			Name: new(generated.VariableName(fmt.Sprintf("Boot%04X", n))), VendorGuid: new(generated.VendorGuid(global)),
		})
		var none *generated.NotFoundFault
		if errors.As(err, &none) {
			continue
		} else if err != nil {
			m.Fatal(err)
		}
		for _, c := range reply.VariableData {
			if c >= ' ' && c < 0x7f {
				text.WriteByte(c)
			}
		}
	}
	return text.String()
}

// sights are what a guest with a console sees of each attribute. What is not here is seen in the power of machines, in
// what the firmware does, or without a console.
var sights = map[string]func(l *looker, value string) bool{
	"SystemManufacturer": is("sys_vendor"), "SystemProductName": is("product_name"), "SystemFamily": is("product_family"), "SkuNumber": is("product_sku"),
	"SerialNumber": is("product_serial"), "AssetTag": is("chassis_asset_tag"), "SystemUuid": is("product_uuid"),
	"ProcessorVirtualization": has("/proc/cpuinfo", ` (vmx|svm) `), "ProcessorAes": has("/proc/cpuinfo", ` aes `), "ProcessorRandom": has("/proc/cpuinfo", ` rdrand `),
	"VirtualTpm": has("/proc/iomem", "MSFT0101"), "Watchdog": has("/proc/bus/pci/devices", "808625ab"), "SerialConsole": has("/proc/tty/driver/serial", "0: uart:16550A port:000003F8"),
	"ProcessorCount": func(l *looker, value string) bool {
		return strconv.Itoa(strings.Count(l.show("/proc/cpuinfo"), "processor\t:")) == value
	},
	"TotalMemoryMiB": func(l *looker, value string) bool { // but for what the kernel has kept for itself
		fields := strings.Fields(l.show("/proc/meminfo"))
		total, _ := strconv.Atoi(fields[slices.Index(fields, "MemTotal:")+1])
		has, _ := strconv.Atoi(value)
		return total>>10 <= has && total>>10 > has*3/4
	},
	"BootMenu": func(l *looker, value string) bool { return (l.variable("Timeout") != "0000") == (value == "true") },
	"BootMenuSeconds": func(l *looker, value string) bool {
		seconds, _ := strconv.Atoi(value)
		return l.attributes["BootMenu"] == "false" || l.variable("Timeout") == fmt.Sprintf("%02x00", seconds)
	},
	"SecureBoot": func(l *looker, value string) bool {
		return l.variable("SecureBoot") == map[string]string{"false": "00", "true": "01"}[value]
	},
	"RtcOffsetMinutes": func(l *looker, value string) bool {
		before := time.Now()
		clock, _ := strconv.ParseInt(strings.TrimSpace(l.show("/sys/class/rtc/rtc0/since_epoch")), 10, 64)
		offset, _ := strconv.Atoi(value)
		ahead := time.Unix(clock, 0).Sub(before) - time.Duration(offset)*time.Minute
		return ahead.Abs() < time.Minute
	},
}

// is sees a text of SMBIOS.
func is(name string) func(*looker, string) bool {
	return func(l *looker, value string) bool {
		return strings.TrimSpace(l.show("/sys/class/dmi/id/"+name)) == value
	}
}

// has sees a pattern in a file, where the attribute is true, and none where it is false.
func has(file, pattern string) func(*looker, string) bool {
	p := regexp.MustCompile(pattern)
	return func(l *looker, value string) bool { return strconv.FormatBool(p.MatchString(l.show(file))) == value }
}

// looker looks at a guest from inside, at one time.
type looker struct {
	*machine
	t          *testing.T
	attributes map[string]string
	files      map[string]string
}

func (l *looker) show(file string) string {
	if _, ok := l.files[file]; !ok || strings.HasPrefix(file, "/sys/class/rtc") {
		l.files[file] = string(l.console.Show(l.t, file))
	}
	return l.files[file]
}

// variable gives the data of one of the specification's variables, in hexadecimal.
func (l *looker) variable(name string) string {
	said := strings.Join(l.console.Do(l.t, "run /bin/efivars read "+name+"-"+global), "")
	content, _, _ := strings.Cut(strings.TrimPrefix(said, "| "), " ")
	return content[min(len(everywhere), len(content)):]
}

// look compares what a guest sees with the values of the attributes.
func (m *machine) look(t *testing.T) {
	t.Helper()
	reply, err := m.service.Admin(t).GetAttributes(t.Context(), m.call(), &generated.GetAttributesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	l := &looker{machine: m, t: t, attributes: map[string]string{}, files: map[string]string{}}
	for _, a := range reply.Attribute {
		l.attributes[a.Name] = strings.Join(a.CurrentValue, " ")
	}
	for name, sees := range sights {
		value, ok := l.attributes[name]
		if !ok {
			t.Errorf("%s has no attribute %s", m.name, name)
			continue
		}
		if !sees(l, value) {
			t.Errorf("the guest %s does not see that %s is %q; it has %.2000q", m.name, name, value, l.files)
			continue
		}
		if name != "BootMenuSeconds" || l.attributes["BootMenu"] == "true" {
			m.saw(name, value)
		}
	}
}
