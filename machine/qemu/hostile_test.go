//go:build guest

package qemu_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"biosv/generated"
	"biosv/internal/guest"
	"biosv/internal/testbed"
	"biosv/smm/variable/efi"
	"biosv/vbios"
)

// Guests that are hostile, and guests that are unlucky. Two machines live through all of it, since a start takes 10 s of
// emulation: the root of one does what he can, and the other one is to have its variables all the while.
func TestHostileAndUnluckyGuests(t *testing.T) {
	h := &house{T: t, images: t.TempDir(), path: recorder(t)}
	h.initrd("initrd")
	h.initrd("initrd-that-wakes", "run /bin/root resume /dev/vda")
	h.swap("swap.raw")
	h.serve("")
	bad := h.create("bad", func(r *generated.CreateDomainRequest) { r.KernelArguments += " iomem=relaxed" })
	good := h.create("good", func(r *generated.CreateDomainRequest) {
		r.InitrdImage, r.DiskImage = image("initrd-that-wakes"), []*generated.ImageName{image("swap.raw")}
	})
	storms := map[*machine]*storm{bad: newStorm(), good: newStorm()}
	for m, s := range storms {
		m.heard = s.hear
		m.setWith("FirmwareOnly", []byte("secret"), generated.VariableAttributeNonVolatile, generated.VariableAttributeBootServiceAccess)
		m.set("Outside", []byte("one"))
		m.reset(generated.ResetTypeOn)
	}
	ready(bad, good)

	t.Run("a root that speaks to the port has the rights of his operating system", func(t *testing.T) { bad.speaks(t) })
	t.Run("a flood makes nobody else's answers slower", func(t *testing.T) { bad.floods(t, good) })
	t.Run("what a guest was told is written is there, however often the service dies", func(t *testing.T) { h.dies(t, storms) })
	t.Run("a machine that slept has its variables when it wakes with another version", func(t *testing.T) {
		good.console.Tell(t, "start sleep /bin/root hibernate /dev/vda")
		good.awaitEnd("hibernation")
		good.within(time.Second, "off", func() bool { return good.power() == generated.PowerStateOff })
		rom := h.upgrade(bad)
		good.set("Outside", []byte("while it slept"))
		good.reset(generated.ResetTypeOn)
		woken := bad.wakes(t) // meanwhile
		good.connect()
		good.console.Await(t, "guest: sleep: it ended")
		if got, want := good.read("Outside"), everywhere+hex.EncodeToString([]byte("while it slept")); got != want {
			t.Errorf("it reads %s, not %s", got, want)
		}
		if has, err := os.ReadFile(filepath.Join(h.service.Data, "run", good.name, "vbios.rom")); err != nil || !bytes.Equal(has, rom) {
			t.Errorf("it woke with another thin virtual BIOS than that of the next version: %v", err)
		}
		good.write("Inside", []byte("awake"))
		if got := good.get("Inside"); string(got) != "awake" {
			t.Errorf("it wrote %q", got)
		}
		if got := good.read("FirmwareOnly"); got != "ENOENT" {
			t.Errorf("it reads %s", got)
		}
		woken()
	})
}

// recorder gives a folder with a QEMU that is the true one, writes down what a guest says to the port of its thin
// virtual BIOS, and has one more serial port, which ends nowhere.
func recorder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := `#!/bin/sh
for a; do
	shift
	case $a in socket,id=vbios,*) a="$a,logfile=` + recording + `" ;; esac
	set -- "$@" "$a"
done
exec ` + guest.Tool(t, "qemu-system-x86_64") + ` "$@" -chardev null,id=nowhere -device isa-serial,index=3,iobase=0x2e8,irq=10,chardev=nowhere
`
	if err := os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// recording is a file of the run folder.
const recording = "said"

// swap makes an image of a disk that a machine can sleep on.
func (h *house) swap(name string) {
	h.Helper()
	path := filepath.Join(h.images, name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		h.Fatal(err)
	}
	if err := os.Truncate(path, 256<<20); err != nil {
		h.Fatal(err)
	}
	h.do("mkswap", "-q", path)
}

// upgrade has the next version of the service take over, and gives the thin virtual BIOS that it brings, which is
// another one. A machine that runs meanwhile goes on.
func (h *house) upgrade(runs *machine) []byte {
	h.Helper()
	runs.awaitVariables()
	process := runs.process()
	dir := h.TempDir()
	rom, overlay, program := filepath.Join(dir, "rom"), filepath.Join(dir, "overlay"), filepath.Join(dir, "biosv")
	h.run(append(os.Environ(), "OPTIMIZE=-O2"), filepath.Join(testbed.Root, "vbios", "build.sh"), rom)
	next, err := os.ReadFile(rom)
	if err != nil {
		h.Fatal(err)
	}
	if bytes.Equal(next, vbios.ROM) {
		h.Fatal("the next version's thin virtual BIOS is that of this one")
	}
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(testbed.Root, "vbios", "vbios.rom"): rom}})
	if err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		h.Fatal(err)
	}
	h.run(append(os.Environ(), "CGO_ENABLED=0"), "go", "build", "-overlay", overlay, "-trimpath", "-ldflags", "-s -w", "-o", program, "./cmd/biosv")
	if err := h.service.Stop(); err != nil {
		h.Fatal(err)
	}
	h.biosv = program
	h.serve(h.service.Data)
	began := time.Now()
	runs.within(backTime, "variables of "+runs.name, runs.answered)
	h.Logf("%s has its variables %s after the start of the next version", runs.name, time.Since(began))
	if runs.process() != process {
		h.Errorf("%s is another process", runs.name)
	}
	return next
}

// speaks says requests in frames of its own, in either phase.
func (m *machine) speaks(t *testing.T) {
	global := efi.GlobalVariable.String()
	for _, c := range []struct{ request, answer string }{
		{"get " + vendor + " FirmwareOnly", "EFI_NOT_FOUND 0 "},
		{"get " + vendor + " Outside", "EFI_SUCCESS 7 6f6e65"},
		{"next " + vendor + " FirmwareOnly", "EFI_INVALID_PARAMETER "},
		{"set " + vendor + " FirmwareOnly 3 78", "EFI_INVALID_PARAMETER"},
		{"set " + vendor + " FirmwareOnly 7 78", "EFI_INVALID_PARAMETER"},
		{"set " + vendor + " FirmwareOnly 0 00", "EFI_NOT_FOUND"},
		{"set " + vendor + " OfFirmware 3 78", "EFI_INVALID_PARAMETER"},
		{"set " + global + " SecureBoot 6 00", "EFI_WRITE_PROTECTED"},
		{"set " + global + " PK 0x27 00", "EFI_SECURITY_VIOLATION"},
		{"set " + vendor + " Mine 7 6d696e65", "EFI_SUCCESS"},
		{"exit", "EFI_SUCCESS"},
	} {
		for phase := range 2 {
			said := m.console.Do(t, fmt.Sprintf("run /bin/root say %d %s", phase, c.request))
			if want := strings.TrimSpace("| " + c.answer); len(said) != 1 || strings.TrimSpace(said[0]) != want {
				t.Errorf("in phase %d, %s is answered by %q; want %q", phase, c.request, said, want)
			}
		}
	}
	if said := m.console.Do(t, "run /bin/root say 2 get "+vendor+" Outside"); len(said) != 1 || said[0] != "| refused 3" {
		t.Errorf("a phase that is none is answered by %q", said)
	}
	if got := m.get("FirmwareOnly"); string(got) != "secret" {
		t.Errorf("FirmwareOnly is %q", got)
	}
	if got := m.get("Mine"); string(got) != "mine" {
		t.Errorf("Mine is %q", got)
	}
	if got := m.read("Outside"); got != everywhere+hex.EncodeToString([]byte("one")) {
		t.Errorf("afterwards, the operating system reads %s", got)
	}
}

// wakes fakes the end of the operating system: the machine is to be reset as if it had slept, and to wake to a program
// that says what firmware may. It gives what is to be looked at when the next boot is there.
func (m *machine) wakes(t *testing.T) (then func()) {
	m.awaitVariables()
	process, boots := m.process(), m.records("BiosV.1.0.OperatingSystemStarted")
	m.console.Tell(t, "start wake /bin/root wake 0 set "+vendor+" Woken 3 78")
	m.awaitEnd("waking")
	m.within(10*time.Second, "a new process", func() bool { pid, err := m.pid(); return err == nil && pid != process })
	m.connect()
	return func() {
		m.console.Await(t, "guest: ready")
		if n := m.records("BiosV.1.0.OperatingSystemStarted"); n != boots+1 {
			t.Errorf("firmware has handed over %d times, and %d times before", n, boots)
		}
		if !m.told("BiosV.1.0.MachineReset") {
			t.Error("the log does not tell of a reset")
		}
		_, err := m.service.Admin(t).GetVariable(t.Context(), m.call(), &generated.GetVariableRequest{Name: new(generated.VariableName("Woken")), VendorGuid: new(generated.VendorGuid(vendor))})
		if missing, ok := err.(*generated.NotFoundFault); !ok || missing.Code != "UnknownVariable" {
			t.Errorf("what it was to wake to was done: %v", err)
		}
		if got := m.read("FirmwareOnly"); got != "ENOENT" {
			t.Errorf("it reads %s", got)
		}
	}
}

// awaitVariables waits until the guest is answered.
func (m *machine) awaitVariables() {
	m.Helper()
	m.within(time.Minute, "variables of "+m.name, m.answered)
}

// answered tells whether the guest reads what was set outside.
func (m *machine) answered() bool {
	m.Helper()
	return m.read("Outside") == everywhere+hex.EncodeToString([]byte("one"))
}

const (
	floodTime  = time.Second
	floodPairs = 2 // of each kind: nowhere first, and then nowhere last, so that what drifts on the host is in both
)

// answers are how long another guest and a tool waited for theirs: the median of each flood.
type answers struct{ inside, outside []time.Duration }

func middle(list []time.Duration) time.Duration {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// extent is how far the middle half of a list extends.
func extent(list []time.Duration) time.Duration {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)*3/4] - list[len(list)/4]
}

// floods writes to its port without a pause, and to one that ends nowhere, in turn. The other guest's answers, and a
// tool's, are as quick as with the latter: in the middle they take half as long again at most, beyond what the
// middle half of the floods that go nowhere differ by.
func (m *machine) floods(t *testing.T, other *machine) {
	const nowhere, ours = "0x2e8", "0x3e8"
	took := map[string]*answers{nowhere: {}, ours: {}}
	for _, kind := range []string{"random", "half", "huge", "requests"} {
		for range floodPairs / 2 {
			for _, port := range []string{nowhere, ours, ours, nowhere} {
				inside, outside := m.flood(t, other, kind, port)
				a := took[port]
				a.inside, a.outside = append(a.inside, inside), append(a.outside, outside)
			}
		}
	}
	quiet, flooded := took[nowhere], took[ours]
	for who, d := range map[string][2][]time.Duration{"the other guest": {quiet.inside, flooded.inside}, "a tool": {quiet.outside, flooded.outside}} {
		null, real, spread := middle(d[0]), middle(d[1]), extent(d[0])
		t.Logf("%s waits %s, %.2f times the %s (%s apart) when the flood goes nowhere", who, real, real.Seconds()/null.Seconds(), null, spread)
		if real > null*3/2+spread {
			t.Errorf("%s waits %s, and %s when the flood goes nowhere, which are %s apart", who, real, null, spread)
		}
	}
	// The floods take less than two minutes on a machine that is not busy.
	if bad, good := m.noise(t), other.noise(t); bad < 1 || bad > 10 || good > 0 {
		t.Errorf("the audit log has %d rows of what the guest said in vain, and %d of the other one", bad, good)
	}
	began := time.Now() // its answers, which it did not read, still come
	m.awaitVariables()
	t.Logf("its own variables were back after %s", time.Since(began))
}

// flood floods a port once, and gives how long answers took meanwhile.
func (m *machine) flood(t *testing.T, other *machine, kind, port string) (inside, outside time.Duration) {
	t.Helper()
	admin := m.service.Admin(t)
	seconds := fmt.Sprint((floodTime + 500*time.Millisecond).Seconds())
	var asked []time.Duration
	var count, half, longest int
	measure := func() {
		m.console.AwaitNext(t, "flood: flooding", func() { m.console.Do(t, "start flood /bin/root flood "+port+" "+kind+" "+seconds) })
		var work sync.WaitGroup
		work.Go(func() {
			for began := time.Now(); time.Since(began) < floodTime; time.Sleep(5 * time.Millisecond) {
				start := time.Now()
				if _, err := admin.GetVariable(t.Context(), other.call(), &generated.GetVariableRequest{Name: new(generated.VariableName("Outside")), VendorGuid: new(generated.VendorGuid(vendor))}); err != nil {
					t.Error(err)
					return
				}
				asked = append(asked, time.Since(start))
			}
		})
		said := other.console.Do(t, fmt.Sprintf("run /bin/efivars median Outside-%s %d", vendor, floodTime.Milliseconds()))
		work.Wait()
		if _, err := fmt.Sscanf(strings.Join(said, ""), "| %d %d %d", &count, &half, &longest); err != nil {
			t.Fatalf("the guest said %q: %v", said, err)
		}
	}
	var volume string
	m.console.AwaitNext(t, "guest: flood: it ended", func() { volume = m.console.AwaitNext(t, "bytes a second", measure) })
	if len(asked) == 0 {
		t.Fatal("a tool got no answer")
	}
	t.Logf("%s to %s: the other guest read %d times, %d µs the median and %d µs the longest; a tool %d times, %s the median; %s", kind, port, count, half, longest, len(asked), middle(asked), volume)
	return time.Duration(half) * time.Microsecond, middle(asked)
}

// noise is how many rows the audit log has of what a guest said in vain.
func (m *machine) noise(t *testing.T) (rows int) {
	t.Helper()
	reply, err := m.service.Admin(t).GetAuditLog(t.Context(), testbed.At(""), &generated.GetAuditLogRequest{MostRecords: new(generated.RecordLimit(1000))})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reply.Record {
		if r.Operation == "Noise" && r.Domain == m.name {
			rows++
		}
	}
	return rows
}

// storm is what a guest said of its writes.
type storm struct {
	mu     sync.Mutex
	told   map[string]uint32 // name -> number of the newest write that it was told is done
	log    []uint32          // numbers that it was told are appended
	count  int               // of writes that are done
	last   time.Time         // when it said so of the newest
	failed int
	worst  time.Duration // that a write took at most
	slow   time.Duration // that a write took at most since the service died last
}

func newStorm() *storm { return &storm{told: map[string]uint32{}} }

// hear takes a line of the console.
func (s *storm) hear(line string) {
	var number uint32
	var name, outcome string
	var took int
	if n, _ := fmt.Sscanf(line, "storm: %d %s %s %d", &number, &name, &outcome, &took); n != 4 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = max(s.slow, time.Duration(took)*time.Microsecond)
	s.worst = max(s.worst, s.slow)
	if outcome != "ok" {
		s.failed++
		return
	}
	s.count++
	s.last = time.Now()
	if s.told[name] = number; name == "StormLog" {
		s.log = append(s.log, number)
	}
}

// died begins to look for the slowest write anew, and gives the one so far.
func (s *storm) died() (slow time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slow, s.slow = s.slow, 0
	return slow
}

func (s *storm) done() (count int, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count, s.last
}

const (
	deaths = 20
	// A call ends within 2 s (docs/vbios.md, section 5), and calls work again within 2 s after the start of the service
	// (docs/guide.md); both in the middle, since the machine may have much else to do at one time or another.
	callTime = 2 * time.Second
	// Variables are back 5 s after the service is, of which QEMU needs one to connect again.
	backTime = 5 * time.Second
)

// dies kills the service while guests write, and looks each time at what is there.
func (h *house) dies(t *testing.T, storms map[*machine]*storm) {
	for m := range storms {
		m.console.Do(t, "start storm /bin/efivars storm "+vendor)
	}
	var back, slow []time.Duration
	awaitMore := func(since time.Time, more int) {
		for m, s := range storms {
			from, _ := s.done()
			m.within(60*time.Second, "writes of "+m.name, func() bool { n, _ := s.done(); return n > from })
			if !since.IsZero() {
				back = append(back, time.Since(since))
			}
			m.within(60*time.Second, "writes of "+m.name, func() bool { n, _ := s.done(); return n >= from+more })
		}
	}
	awaitMore(time.Time{}, 10)
	for range deaths {
		time.Sleep(rand.N(100 * time.Millisecond))
		for _, s := range storms {
			s.died()
		}
		h.service.Kill()
		told := map[*machine]*storm{}
		for m, s := range storms {
			s.mu.Lock()
			told[m] = &storm{told: maps.Clone(s.told), log: slices.Clone(s.log)}
			s.mu.Unlock()
		}
		h.serve(h.service.Data)
		since := time.Now()
		for m, s := range told {
			m.judge(t, s)
		}
		awaitMore(since, 4)
		for _, s := range storms {
			slow = append(slow, s.died())
		}
	}
	for m, s := range storms {
		m.console.Do(t, "stop storm")
		m.judge(t, s)
		t.Logf("%s: %d writes done, %d failed, the longest took %s", m.name, s.count, s.failed, s.worst)
		if s.worst > 5*callTime {
			t.Errorf("a write of %s took %s", m.name, s.worst)
		}
	}
	if to := os.Getenv("RECORD"); to != "" {
		for m := range storms {
			record(t, filepath.Join(m.service.Data, "run", m.name, recording), to)
			break
		}
	}
	t.Logf("after %d deaths of the service, writes went on after %s in the middle, and %s at most; of the slowest writes, the middle one took %s", deaths, middle(back), slices.Max(back), middle(slow))
	if middle(back) > callTime || slices.Max(back) > 4*backTime {
		t.Errorf("writes went on only after %s in the middle, and %s at most", middle(back), slices.Max(back))
	}
	if middle(slow) > callTime {
		t.Errorf("of the slowest writes at each death, the middle one took %s", middle(slow))
	}
}

// record keeps what a guest said, for the test that cuts the power while biosv is told the same (internal/powercut).
func record(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// judge looks whether all is there of which the guest was told that it is, each write whole, and appended once.
func (m *machine) judge(t *testing.T, s *storm) {
	t.Helper()
	for name, number := range s.told {
		value := m.get(name)
		if name == "StormLog" {
			continue
		}
		if len(value) < 4 || !bytes.Equal(value, bytes.Repeat(value[:4], len(value)/4)) {
			t.Errorf("%s of %s is there in part: %x", name, m.name, value)
		} else if got := binary.LittleEndian.Uint32(value); got < number {
			t.Errorf("%s of %s is that of write %d, and write %d was done", name, m.name, got, number)
		}
	}
	if len(s.log) == 0 {
		return
	}
	var there []uint32
	for b := range slices.Chunk(m.get("StormLog"), 4) {
		there = append(there, binary.LittleEndian.Uint32(b))
	}
	if !slices.IsSorted(there) || len(slices.Compact(slices.Clone(there))) != len(there) {
		t.Errorf("%s has appended twice: %d", m.name, there)
	}
	for _, number := range s.log {
		if _, ok := slices.BinarySearch(there, number); !ok {
			t.Errorf("append %d of %s was done, and is not there", number, m.name)
		}
	}
}
