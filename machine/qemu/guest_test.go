//go:build guest

package qemu_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
	arguments  = "console=ttyS0 quiet panic=-1 cryptomgr.notests"
)

// house is a service with virtual machines.
type house struct {
	*testing.T
	service *testbed.Service
	images  string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{T: t, images: t.TempDir()}
	files := map[string]string{}
	for name, source := range map[string]string{"/bin/efivars": "./vbios/testdata/efivars", "/bin/crash": "./machine/qemu/testdata/crash"} {
		files[name] = filepath.Join(t.TempDir(), "program")
		build := exec.Command("go", "build", "-o", files[name], source)
		build.Dir, build.Env = testbed.Root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	kernel := guest.Image(t, guest.Config{Modules: []string{"efivarfs", "pvpanic-mmio"}, Files: files}, filepath.Join(h.images, "initrd"))
	content, err := os.ReadFile(kernel)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.images, "kernel"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	h.serve("")
	return h
}

// serve starts the service, over the data of the one before.
func (h *house) serve(data string) {
	h.Helper()
	h.service = testbed.Start(h.T, testbed.Options{Data: data, Args: []string{"--tpm", "software", "--pool", "images=" + h.images}})
}

// machine is one of them.
type machine struct {
	*house
	name    string
	console *guest.Guest
	closed  chan struct{} // when the console is
}

func (h *house) create(name string) *machine {
	h.Helper()
	return h.define(name, &generated.CreateDomainRequest{KernelImage: image("kernel"), InitrdImage: image("initrd"), KernelArguments: arguments})
}

func image(name string) *generated.ImageName { return new(generated.ImageName("images/" + name)) }

// define makes a machine of what it has besides its name, kind and memory.
func (h *house) define(name string, r *generated.CreateDomainRequest) *machine {
	h.Helper()
	r.Name, r.DomainKind, r.MemoryMiB = new(generated.DomainName(name)), new(generated.DomainKindQemu), new(generated.MemoryMiB(256))
	if _, err := h.service.Admin(h).CreateDomain(h.Context(), testbed.At(""), r); err != nil {
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

// watched tells when its reader sees the end.
type watched struct {
	net.Conn
	closed chan struct{}
}

func (w watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
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
	m.console = guest.Console(m, watched{conn, m.closed})
}

// leave has the guest leave, and gives the time when its console was closed.
func (m *machine) leave(command string) time.Time {
	m.Helper()
	m.console.Tell(m, command)
	select {
	case <-m.closed:
	case <-time.After(60 * time.Second):
		m.Fatalf("it did not leave by %s", command)
	}
	return time.Now()
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

func (m *machine) set(name string, value []byte) {
	m.Helper()
	if _, err := m.service.Admin(m).SetVariable(m.Context(), m.call(), &generated.SetVariableRequest{
		Name: new(generated.VariableName(name)), VendorGuid: new(generated.VendorGuid(vendor)), VariableData: value,
		VariableAttribute: []*generated.VariableAttribute{
			new(generated.VariableAttributeNonVolatile), new(generated.VariableAttributeBootServiceAccess), new(generated.VariableAttributeRuntimeAccess),
		},
	}); err != nil {
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
func (m *machine) told(id string) bool {
	m.Helper()
	reply, err := m.service.Admin(m).GetEventLog(m.Context(), m.call(), &generated.GetEventLogRequest{MostRecords: new(generated.RecordLimit(1000))})
	if err != nil {
		m.Fatal(err)
	}
	return slices.ContainsFunc(reply.Record, func(r *generated.EventRecord) bool { return r.MessageId == id })
}

// Two machines go through their lives. A start takes 10 s of emulation, so they live once for all.
func TestVirtualMachinesHaveTheirVariablesHere(t *testing.T) {
	h := newHouse(t)
	one, two := h.create("one"), h.create("two")
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

	t.Run("each has a user of its own, who opens nothing of others", func(t *testing.T) {
		if os.Geteuid() != 0 {
			for _, m := range []*machine{one, two} {
				if id := m.user(); id != os.Geteuid() {
					t.Errorf("%s has the user %d, though nobody but root can give it one", m.name, id)
				}
			}
			return
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
	t.Run("a killed QEMU is off", func(t *testing.T) {
		if err := syscall.Kill(two.process(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		two.within(time.Second, "off", func() bool { return two.power() == generated.PowerStateOff })
		two.within(time.Second, "a record", func() bool { return two.told("BiosV.1.0.MachineKilled") })
	})
	t.Run("what happened while the service was away is made up for", func(t *testing.T) {
		two.setAttributes("SystemManufacturer", "Example, Ltd.", "SystemProductName", "Blade", "SystemFamily", "Blades", "SkuNumber", "B-7", "SerialNumber", "0815", "AssetTag", "rack 7",
			"ProcessorAes", "false", "ProcessorRandom", "false", "BootTimeoutSeconds", "1", "Watchdog", "Restart", "PanicAction", "Restart")
		two.reset(generated.ResetTypeOn) // one that was killed starts as any other
		was := map[*machine]int{one: one.process(), two: two.process()}
		h.service.Kill()
		one.leave("reboot")
		if err := syscall.Kill(two.process(), syscall.SIGKILL); err != nil { // as if the host had lost its power
			t.Fatal(err)
		}
		h.serve(h.service.Data)
		for m, process := range was {
			m.within(5*time.Second, "a new process", func() bool { pid, err := m.pid(); return err == nil && pid != process })
		}
		ready(one, two)
		if state := one.power(); state != generated.PowerStateOn {
			t.Errorf("it is %s", state)
		}
	})
	t.Run("every attribute is seen inside", func(t *testing.T) {
		const dmi, yes, no = "/sys/class/dmi/id/", true, false
		for _, row := range []struct {
			file, text string
			two, one   bool
		}{
			{dmi + "sys_vendor", "Example, Ltd.", yes, no}, {dmi + "product_name", "Blade", yes, no}, {dmi + "product_family", "Blades", yes, no}, {dmi + "product_sku", "B-7", yes, no},
			{dmi + "product_serial", "0815", yes, no}, {dmi + "chassis_asset_tag", "rack 7", yes, no}, {dmi + "sys_vendor", "QEMU", no, yes},
			{"/proc/cpuinfo", " aes ", no, yes}, {"/proc/cpuinfo", " rdrand ", no, yes},
			{"/proc/bus/pci/devices", "808625ab", yes, no}, // the watchdog
		} {
			for m, want := range map[*machine]bool{one: row.one, two: row.two} {
				if text := m.console.Show(t, row.file); strings.Contains(string(text), row.text) != want {
					t.Errorf("%s of %s has %q: %t, not %t\n%s", row.file, m.name, row.text, !want, want, text)
				}
			}
		}
		for m, want := range map[*machine]byte{one: 0, two: 1} {
			reply, err := h.service.Admin(t).GetVariable(t.Context(), m.call(), &generated.GetVariableRequest{Name: new(generated.VariableName("Timeout"))})
			if err != nil || !bytes.Equal(reply.VariableData, []byte{want, 0}) {
				t.Errorf("Timeout of %s is %v, %v", m.name, reply, err)
			}
		}
	})
	t.Run("a machine that was turned off inside is off", func(t *testing.T) {
		one.leave("poweroff")
		one.within(time.Second, "off", func() bool { return one.power() == generated.PowerStateOff })
		one.within(time.Second, "a record", func() bool { return one.told("BiosV.1.0.MachineOff") })
	})
	t.Run("a panic is seen, and the machine starts again where it is to", func(t *testing.T) {
		process := two.process()
		two.setAttributes("PanicAction", "StandStill") // from the next start on
		two.console.Tell(t, "start crash /bin/crash")
		two.within(10*time.Second, "a new process", func() bool { pid, err := two.pid(); return err == nil && pid != process })
		if !two.told("BiosV.1.0.OperatingSystemPanicked") {
			t.Error("the log does not tell of it")
		}
		ready(two)
	})
	t.Run("or stands still until it is taken its power", func(t *testing.T) {
		two.console.Tell(t, "start crash /bin/crash")
		two.within(10*time.Second, "paused", func() bool { return two.power() == generated.PowerStatePaused })
		two.within(time.Second, "a record", func() bool { return two.told("BiosV.1.0.OperatingSystemPanicked") })
		two.reset(generated.ResetTypeForceOff)
		if state := two.power(); state != generated.PowerStateOff {
			t.Errorf("it is %s", state)
		}
	})
}
