package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine/firmware"
	"biosv/smm"
)

// bench is a host whose QEMU is the fake, and one domain of it.
type bench struct {
	*testing.T
	host    *Host
	domain  smm.Domain
	machine *Machine
	image   string // a file of the pool images

	mu         sync.Mutex
	secureBoot bool
	refuse     error // of the next starts
	starts     int
	events     []string // ids
	taken      []string // what the firmware had written
	inside     []bool   // of each door
	phase      generated.GuestPhase
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, firmwares, pool := filepath.Join(t.TempDir(), fakeName), newFirmwares(t, "50-fits"), t.TempDir()
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	b.image = filepath.Join(pool, "disk.qcow2")
	if err := os.WriteFile(b.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.host = New(Config{
		Folder: filepath.Join(t.TempDir(), strings.Repeat("long", 30)), Pools: map[string]string{"images": pool}, Program: program, Firmwares: []string{firmwares}, TPMs: filepath.Join(t.TempDir(), "vtpm"), KVM: filepath.Join(pool, "no-kvm"),
		ROM: []byte("rom"), Variables: b, Door: b.door, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	b.domain = smm.Domain{Name: "web1", UUID: "5b1f6d0e-0c57-4a0c-9d2e-0d6a4c0a1b2c", VirtualMachine: &generated.VirtualMachine{}}
	if err := b.host.Define(b.domain.VirtualMachine); err != nil {
		t.Fatal(err)
	}
	b.open()
	t.Cleanup(func() {
		if b.machine.running() != nil {
			b.reset(generated.ResetTypeForceOff)
		}
		if err := b.machine.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// open opens the machine, as biosv that starts does.
func (b *bench) open() {
	b.Helper()
	m, err := b.host.Open(b.Context(), b.domain, nil, b)
	if err != nil {
		b.Fatal(err)
	}
	b.machine = m.(*Machine)
	b.machine.Resume(b.Context())
}

// door echoes, and tells the boot of what it hears.
func (b *bench) door(ctx context.Context, _ string, inside bool, l net.Listener, boot *firmware.Boot) error {
	b.mu.Lock()
	b.inside = append(b.inside, inside)
	b.mu.Unlock()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		text, _ := bufio.NewReader(conn).ReadString('\n')
		switch strings.TrimSpace(text) {
		case "arrived":
			err = boot.Arrived(ctx)
		case "exit":
			err = boot.ExitBootServices(ctx)
		case "reset":
			err = boot.ResetSystem(ctx, 1)
		}
		fmt.Fprintf(conn, "%s %v\n", strings.TrimSpace(text), err)
		conn.Close()
	}
}

func (b *bench) Starting(context.Context) (smm.Settings, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.starts++
	return nil, b.refuse
}

func (b *bench) Diverge(context.Context, string) error { return nil }

func (b *bench) Enter(_ context.Context, phase generated.GuestPhase, _ smm.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.phase = phase
	return nil
}

func (b *bench) Report(_ context.Context, e smm.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, strings.TrimPrefix(e.MessageID, "BiosV.1.0."))
	return nil
}

func (b *bench) Begin(context.Context, string) ([]byte, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return []byte("rendered"), b.secureBoot, nil
}

func (b *bench) TakeOver(_ context.Context, _ string, rendered, found []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken = append(b.taken, string(rendered)+"/"+string(found))
	return nil
}

func (b *bench) told() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}

func (b *bench) reset(how generated.ResetType) {
	b.Helper()
	if err := b.machine.Reset(context.Background(), how); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) power() generated.PowerState {
	b.Helper()
	state, err := b.machine.Power(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return state
}

// say tells the fake something.
func (b *bench) say(line string) string {
	b.Helper()
	conn, err := net.Dial("unix", b.machine.folder.socket(socketSerial))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, line)
	answer, _ := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(answer)
}

// end has the fake end as QEMU does for a reason.
func (b *bench) end(reason firmware.End) {
	b.Helper()
	switch reason {
	case firmware.WatchdogReset:
		b.say(`event {"event": "WATCHDOG", "data": {"action": "reset"}}`)
		reason = firmware.GuestReset
	case firmware.WatchdogOff:
		b.say(`event {"event": "WATCHDOG", "data": {"action": "poweroff"}}`)
	}
	if reason != firmware.WatchdogOff {
		b.say(fmt.Sprintf(`event {"event": "SHUTDOWN", "data": {"guest": true, "reason": %q}}`, reason))
	}
	b.say("exit")
}

func (b *bench) eventually(what string, so func() bool) {
	b.Helper()
	for deadline := time.Now().Add(30 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("it is not so: %s; the log tells of %q", what, b.told())
		}
	}
}

func TestAMachineIsWhatItsMonitorSays(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if state := b.power(); state != generated.PowerStateOff {
		t.Errorf("it is %s before it was started", state)
	}
	b.reset(generated.ResetTypeOn)
	for _, row := range []struct {
		status string
		want   generated.PowerState
	}{
		{"running", generated.PowerStateOn}, {"prelaunch", generated.PowerStatePoweringOn}, {"shutdown", generated.PowerStatePoweringOff},
		{"paused", generated.PowerStatePaused}, {"guest-panicked", generated.PowerStatePaused}, {"io-error", generated.PowerStatePaused},
		{"internal-error", generated.PowerStatePaused}, {"running", generated.PowerStateOn},
	} {
		b.say("status " + row.status)
		if state := b.power(); state != row.want {
			t.Errorf("where QEMU says %s it is %s, not %s", row.status, state, row.want)
		}
	}
	b.say("status dancing")
	var unavailable *generated.UnavailableFault
	if state, err := b.machine.Power(t.Context()); !errors.As(err, &unavailable) {
		t.Errorf("where QEMU says what is not known it is %s, %v", state, err)
	}
}

func TestABootEndsForAReasonAndIsFollowedByAnotherAfterAReset(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		reason firmware.End
		event  string
		again  bool
	}{
		{firmware.WatchdogReset, "WatchdogFired", true}, {firmware.WatchdogOff, "WatchdogFired", false},
		{firmware.GuestReset, "MachineReset", true}, {firmware.FirmwareReset, "MachineReset", true}, {firmware.GuestShutdown, "MachineOff", false},
		{firmware.GuestPanic, "OperatingSystemPanicked", false}, {"host-signal", "MachineStopped", false},
	} {
		t.Run(string(row.reason), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.reset(generated.ResetTypeOn)
			first := b.machine.running().process.pid
			b.end(row.reason)
			b.eventually("the log tells of it", func() bool { return slices.Contains(b.told(), row.event) })
			if row.again {
				b.eventually("another process runs", func() bool { p := b.machine.running(); return p != nil && p.process.pid != first })
				b.eventually("it is on", func() bool { return b.power() == generated.PowerStateOn })
			} else if state := b.power(); state != generated.PowerStateOff {
				t.Errorf("it is %s", state)
			}
			if want := map[bool]int{true: 2, false: 1}[row.again]; b.starts != want {
				t.Errorf("there were %d starts, not %d", b.starts, want)
			}
		})
	}
}

func TestAKilledProcessIsOff(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.reset(generated.ResetTypeOn)
	if err := syscall.Kill(b.machine.running().process.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.eventually("it is off", func() bool { return b.power() == generated.PowerStateOff })
	b.eventually("the log tells of it", func() bool { return slices.Equal(b.told(), []string{"MachineKilled"}) })
	b.reset(generated.ResetTypePushPowerButton)
	if state := b.power(); state != generated.PowerStateOn {
		t.Errorf("after another start it is %s", state)
	}
}

func TestResetsReachQEMU(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.reset(generated.ResetTypeOn)
	first := b.machine.running().process.pid
	b.reset(generated.ResetTypeGracefulShutdown)
	b.reset(generated.ResetTypeGracefulRestart)
	if heard := b.say("heard"); strings.Count(heard, "system_powerdown") != 2 {
		t.Errorf("QEMU heard %s", heard)
	}
	var unavailable *generated.UnavailableFault
	if err := b.machine.Reset(t.Context(), generated.ResetTypeNmi); !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "machine does not provide NMIs") {
		t.Errorf("what QEMU refuses is answered with %v", err)
	}
	b.end(firmware.GuestShutdown) // of its operating system, which was asked for a restart
	b.eventually("another process runs", func() bool { p := b.machine.running(); return p != nil && p.process.pid != first })
	second := b.machine.running().process.pid
	b.reset(generated.ResetTypeForceRestart)
	if third := b.machine.running().process.pid; third == second || b.power() != generated.PowerStateOn {
		t.Error("a restart by force is no other process")
	}
	b.reset(generated.ResetTypeForceOff)
	if state := b.power(); state != generated.PowerStateOff {
		t.Errorf("it is %s", state)
	}
	var conflict *generated.ConflictFault
	if err := b.machine.Reset(t.Context(), generated.ResetTypeForceRestart); !errors.As(err, &conflict) {
		t.Errorf("a restart of what is off: %v", err)
	}
	if told := b.told(); slices.Contains(told, "MachineKilled") {
		t.Errorf("what was asked for is told of as an accident: %q", told)
	}
}

func TestAProcessThatDoesNotAnswerIsTakenItsPower(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.reset(generated.ResetTypeOn)
	b.say("silence")
	var unavailable *generated.UnavailableFault
	if state, err := b.machine.Power(t.Context()); !errors.As(err, &unavailable) {
		t.Errorf("it is %s, %v", state, err)
	}
	b.reset(generated.ResetTypeForceOff)
	if state := b.power(); state != generated.PowerStateOff {
		t.Errorf("it is %s", state)
	}
}

func TestAMachineOutlivesWhoStartedIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.reset(generated.ResetTypeOn)
	pid := b.machine.running().process.pid
	again := func() {
		t.Helper()
		if err := b.machine.Close(); err != nil {
			t.Fatal(err)
		}
	}
	again()
	b.open()
	if p := b.machine.running(); p == nil || p.process.pid != pid || b.power() != generated.PowerStateOn {
		t.Fatal("it was not found again")
	}
	if answer := b.say("vbios hello"); answer != "hello <nil>" {
		t.Errorf("its guest is answered %q", answer)
	}
	if !slices.Equal(b.inside, []bool{false, true}) {
		t.Errorf("its guest counts as one in its operating system: %t", b.inside)
	}
	if b.phase != generated.GuestPhaseOperatingSystem {
		t.Errorf("its guest is kept to be in the phase %q", b.phase)
	}
	for _, row := range []struct {
		reason firmware.End
		event  string
		state  generated.PowerState
	}{
		{firmware.GuestReset, "MachineReset", generated.PowerStateOn}, {firmware.WatchdogReset, "WatchdogFired", generated.PowerStateOn}, {firmware.GuestShutdown, "MachineOff", generated.PowerStateOff},
	} {
		say := b.machine.folder.at(socketSerial)
		folder, err := openFolder(b.machine.folder.path)
		if err != nil {
			t.Fatal(err)
		}
		again()
		b.machine.folder = folder // to speak with the fake while nobody watches
		b.end(row.reason)
		b.eventually("it has ended", func() bool {
			conn, err := net.Dial("unix", folder.socket(socketSerial))
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
		if err := folder.close(); err != nil {
			t.Fatal(err)
		}
		b.open()
		b.eventually("the log tells of "+string(row.reason), func() bool { return slices.Contains(b.told(), row.event) })
		b.eventually(say+" is "+string(row.state), func() bool { return b.power() == row.state })
	}
}

func TestAPanicIsToldOfOnceAlsoWhenNobodySawIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.reset(generated.ResetTypeOn)
	folder, err := openFolder(b.machine.folder.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.machine.Close(); err != nil {
		t.Fatal(err)
	}
	b.machine.folder = folder // to speak with the fake while nobody watches
	b.say("status guest-panicked")
	b.say(`event {"event": "GUEST_PANICKED", "data": {"action": "pause"}}`)
	if err := folder.close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.open()
		if state, told := b.power(), b.told(); state != generated.PowerStatePaused || !slices.Equal(told, []string{"OperatingSystemPanicked"}) {
			t.Errorf("it is %s, and the log tells of %q", state, told)
		}
		if err := b.machine.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
}

// Where biosv is not root, nothing keeps QEMU from making what it likes in its run folder.
func TestPipesInTheRunFolderAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.reset(generated.ResetTypeOn)
	secret := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fileEvents, fileFlash, filePID} {
		if err := errors.Join(os.Remove(b.machine.folder.at(name)), syscall.Mkfifo(b.machine.folder.at(name), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, b.machine.folder.at(fileTold)); err != nil {
		t.Fatal(err)
	}
	if answer := b.say("vbios arrived"); answer != "arrived <nil>" {
		t.Errorf("the guest is answered %q", answer)
	}
	b.machine.running().standsStill()
	if text, err := os.ReadFile(secret); err != nil || string(text) != "secret" {
		t.Errorf("the file behind a link is %q, %v", text, err)
	}
	if err := syscall.Kill(b.machine.running().process.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.eventually("it is off", func() bool { return b.power() == generated.PowerStateOff })
	b.eventually("the log tells of it", func() bool { return slices.Equal(b.told(), []string{"FirmwareWritesLost", "MachineKilled"}) })
	b.reset(generated.ResetTypeOn)
}

func TestAMachineThatIsNoDomainsIsEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.reset(generated.ResetTypeOn)
	other := b.domain
	other.UUID = "5b1f6d0e-0c57-4a0c-9d2e-0d6a4c0a1b2d"
	for _, row := range []struct {
		name    string
		domains []smm.Domain
		stays   bool
	}{{"its own", []smm.Domain{b.domain}, true}, {"none", nil, false}, {"another of its name", []smm.Domain{other}, false}} {
		t.Run(row.name, func(t *testing.T) {
			if b.machine.running() == nil {
				b.reset(generated.ResetTypeOn)
			}
			process := b.machine.running().process
			if err := b.machine.Close(); err != nil {
				t.Fatal(err)
			}
			ended, err := b.host.EndOthers(row.domains)
			if want := map[bool][]string{false: {b.domain.Name}}[row.stays]; err != nil || !slices.Equal(ended, want) {
				t.Errorf("%q were ended, and not %q; %v", ended, want, err)
			}
			if p, err := adopt(process.pid, "-uuid", b.domain.UUID); (p != nil) != row.stays || err != nil {
				t.Errorf("it runs: %t, %v", p != nil, err)
			} else if p != nil {
				p.forget()
			}
			b.open()
			if (b.machine.running() != nil) != row.stays {
				t.Errorf("it is %s", b.power())
			}
		})
	}
	if told := b.told(); len(told) != 0 {
		t.Errorf("its log tells of %q, though it is another's", told)
	}
}

func TestLoadAndMemoryAreMeasured(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var unavailable *generated.UnavailableFault
	if reading, err := b.machine.Thermal(t.Context()); !errors.As(err, &unavailable) {
		t.Errorf("where it is off: %+v, %v", reading, err)
	}
	b.reset(generated.ResetTypeOn)
	measure := func() map[string]*generated.ThermalSensor {
		t.Helper()
		reading, err := b.machine.Thermal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sensors := map[string]*generated.ThermalSensor{}
		for _, s := range reading.Sensor {
			sensors[s.Name] = s
		}
		return sensors
	}
	sensors := measure()
	// It would be 100 if nothing else ran here.
	if s := sensors["CPU 0"]; s == nil || *s.Reading < 5 || *s.Reading > 100 || *s.SensorKind != generated.SensorKindLoad || *s.SensorState != generated.SensorStateNormal {
		t.Errorf("a processor that is always busy: %+v", s)
	}
	if s := sensors["Memory on the Host"]; s == nil || *s.Reading > 20 || *s.SensorKind != generated.SensorKindMemory { // the test takes some of 1024 MiB
		t.Errorf("the host's memory: %+v", s)
	}
	if s := sensors["Memory"]; s != nil {
		t.Errorf("a guest without a driver says how much it uses: %+v", s)
	}
	for _, row := range []struct {
		ago, total, available, free string
		want                        generated.SensorReading // -1: there is none
		state                       generated.SensorState
	}{
		{"1s", "1000", "400", "100", 60, generated.SensorStateNormal}, {"1s", "1000", "50", "10", 95, generated.SensorStateNonCritical},
		{"1s", "1000", "18446744073709551615", "300", 70, generated.SensorStateNormal}, // one that does not know what is available
		{"1m", "1000", "400", "100", -1, ""}, {"1s", "18446744073709551615", "400", "100", -1, ""}, {"1s", "1000", "2000", "2000", -1, ""},
	} {
		b.say(strings.Join([]string{"memory", row.ago, row.total, row.available, row.free}, " "))
		switch s := measure()["Memory"]; {
		case s == nil && row.want == -1:
		case s == nil || *s.Reading != row.want || *s.SensorState != row.state:
			t.Errorf("%+v is %+v", row, s)
		}
	}
}

func TestMachinesShowWhatTheHostMeasures(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var refusal error
	b.host.Sensors = func(context.Context) (*generated.ThermalReading, error) {
		return &generated.ThermalReading{Sensor: []*generated.ThermalSensor{{Name: "coretemp Core 0"}}, Fan: []*generated.Fan{{Name: "nct6775 fan1"}}}, refusal
	}
	reading, err := b.machine.Thermal(t.Context())
	if err != nil || len(reading.Sensor) != 1 || reading.Sensor[0].Name != "Host coretemp Core 0" || len(reading.Fan) != 1 || reading.Fan[0].Name != "Host nct6775 fan1" {
		t.Errorf("a machine that is off: %+v, %v", reading, err)
	}
	b.reset(generated.ResetTypeOn)
	if reading, err := b.machine.Thermal(t.Context()); err != nil || len(reading.Sensor) != 3 {
		t.Errorf("one that runs: %+v, %v", reading, err)
	}
	refusal = fault.Unavailable(fault.NotOnThisHost, 0, "This host has none.")
	if reading, err := b.machine.Thermal(t.Context()); err != nil || len(reading.Sensor) != 2 {
		t.Errorf("where the host has none: %+v, %v", reading, err)
	}
}

func TestKVMIsUsedWhereAProbeRan(t *testing.T) {
	t.Parallel()
	for device, want := range map[string]string{"works": kvm, "dies": tcg, "absent": tcg} {
		t.Run(device, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.host.KVM = filepath.Join(t.TempDir(), device)
			if device != "absent" {
				if err := os.WriteFile(b.host.KVM, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			b.host.ROM = []byte(device) // which tells the fake what to do
			b.reset(generated.ResetTypeOn)
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", b.machine.running().process.pid))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(line), ",accel="+want+",") {
				t.Errorf("it does not run by %s: %q", want, line)
			}
			if left, err := filepath.Glob(filepath.Join(b.host.Folder, ".probe*")); err != nil || len(left) != 0 {
				t.Errorf("of the probe is left: %q, %v", left, err)
			}
		})
	}
}

func TestPowerReturnsAsThePolicySays(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]generated.PowerState{"": generated.PowerStateOn, "LastState": generated.PowerStateOn, "AlwaysOff": generated.PowerStateOff} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.reset(generated.ResetTypeOn)
			settings := smm.Settings{}
			if policy != "" {
				settings["PowerRestorePolicy"] = []string{policy}
			}
			pid := b.machine.running().process.pid
			if err := b.machine.Close(); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil { // the host's power went
				t.Fatal(err)
			}
			b.eventually("it is gone", func() bool {
				state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				return err != nil || strings.Contains(string(state), ") Z ")
			})
			m, err := b.host.Open(t.Context(), b.domain, nil, b)
			if err != nil {
				t.Fatal(err)
			}
			b.machine = m.(*Machine)
			if err := b.machine.Configure(t.Context(), settings); err != nil {
				t.Fatal(err)
			}
			b.machine.Resume(t.Context())
			b.eventually("it is told of", func() bool { return slices.Contains(b.told(), "MachineKilled") })
			b.eventually("it is "+string(want), func() bool { return b.power() == want })
		})
	}
}

func TestOnlyTheMachinesOwnProcessIsAnswered(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.reset(generated.ResetTypeOn)
	conn, err := net.Dial("unix", b.machine.folder.socket(socketVBIOS))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, "hello")
	if answer, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
		t.Errorf("another process is answered %q", answer)
	}
	if answer := b.say("vbios hello"); answer != "hello <nil>" {
		t.Errorf("its own is answered %q", answer)
	}
}

func TestWhatTheGuestSaysOfItsBoot(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.reset(generated.ResetTypeOn)
	if err := os.WriteFile(b.machine.folder.at(fileFlash), []byte("written"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"arrived", "arrived", "exit", "reset", "reset"} {
		if answer := b.say("vbios " + line); answer != line+" <nil>" {
			t.Errorf("%s is answered %q", line, answer)
		}
	}
	if !slices.Equal(b.taken, []string{"rendered/written"}) {
		t.Errorf("%q was taken over", b.taken)
	}
	if told := b.told(); !slices.Equal(told, []string{"ResetRequested"}) || b.phase != generated.GuestPhaseOperatingSystem {
		t.Errorf("the log tells of %q", told)
	}
	b.say(`event {"event": "GUEST_PANICKED", "data": {"action": "pause"}}`)
	b.eventually("the log tells of the panic", func() bool { return slices.Contains(b.told(), "OperatingSystemPanicked") })
}

func TestAStartThatCannotBe(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	refused := func(what string) {
		t.Helper()
		if err := b.machine.Reset(t.Context(), generated.ResetTypeOn); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("it is answered with %v", err)
		}
		if state := b.power(); state != generated.PowerStateOff {
			t.Errorf("it is %s", state)
		}
	}
	b.domain.VirtualMachine.MemoryMiB = new(generated.MemoryMiB(666))
	refused("cannot set up guest memory")
	b.domain.VirtualMachine.MemoryMiB = new(generated.MemoryMiB(64))
	b.domain.VirtualMachine.KernelImage = new(generated.ImageName("images/disk.qcow2"))
	b.secureBoot = true
	refused("Secure Boot is on")
	b.secureBoot = false
	b.domain.VirtualMachine.DiskImage = []*generated.ImageName{new(generated.ImageName("images/gone.raw"))}
	refused(`no image "gone.raw"`)
	b.domain.VirtualMachine.DiskImage = nil
	b.refuse = errors.New("the disk is full")
	refused("the disk is full")
	b.refuse = nil
	b.reset(generated.ResetTypeOn)
	b.refuse = errors.New("the disk is full")
	b.end(firmware.GuestReset)
	b.eventually("the log tells that it stays off", func() bool { return slices.Contains(b.told(), "StartFailed") })
	b.eventually("it is off", func() bool { return b.power() == generated.PowerStateOff })
}
