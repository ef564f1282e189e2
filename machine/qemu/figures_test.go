//go:build guest && bench

package qemu_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"biosv/generated"
	"biosv/internal/guest"
	"biosv/vbios"
)

const (
	pairs = 9  // of boots
	many  = 10 // guests at once
	reads = 2000
)

// What a guest costs. make bench prints it. Where the thin virtual BIOS is left out, everything else is the same: the
// command line is the one that biosv used, without the option ROM and its UART, and the flash has the variables that
// biosv answers otherwise.
func TestFigures(t *testing.T) {
	fmt.Printf("\n%s\n\n", host())
	figure("thin virtual BIOS, the option ROM", "%d bytes", len(vbios.ROM))
	t.Run("boots", figureBoots)
	t.Run("reads", figureReads)
	t.Run("memory", figureMemory)
	t.Run("many", figureMany)
	fmt.Printf("\nload average at the end %s\n\n", load())
}

func figure(what, format string, a ...any) { fmt.Printf("%-64s %s\n", what, fmt.Sprintf(format, a...)) }

func host() string {
	var release unix.Utsname
	_ = unix.Uname(&release) // a figure is a figure without it
	return fmt.Sprintf("%d processors, Linux %s, %s; load average at the start %s", runtime.NumCPU(), unix.ByteSliceToString(release.Release[:]), runtime.Version(), load())
}

func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	return strings.Join(strings.Fields(string(text))[:2], " ")
}

// Boots with Secure Boot and Microsoft's keys and dbx, of a program that one more key has signed, with and without the
// thin virtual BIOS by turns.
func figureBoots(t *testing.T) {
	h := &house{T: t, images: t.TempDir()}
	h.serve("")
	dir := t.TempDir()
	db, signed := h.certify(dir, "db"), filepath.Join(dir, "signed.efi")
	h.do("sbsign", "--key", db.key, "--cert", db.certificate, "--output", signed, h.program(dir, "here"))
	disk := h.systemPartition("disk.img", signed)
	m := h.create("boots", func(r *generated.CreateDomainRequest) {
		r.KernelImage, r.InitrdImage, r.KernelArguments, r.DiskImage = nil, nil, "", []*generated.ImageName{disk}
	})
	if _, err := h.service.Admin(t).EnrollSecureBootKeys(t.Context(), m.call(), &generated.EnrollSecureBootKeysRequest{
		SecureBootKeySet: new(generated.SecureBootKeySetMicrosoft), AuthorizedKeyPem: db.pem,
	}); err != nil {
		t.Fatal(err)
	}
	const line = "here: SecureBoot: 01"
	with := func() cost {
		before := costOf(t, h.service.PID)
		m.reset(generated.ResetTypeOn)
		m.connect()
		m.console.Await(t, line)
		c := costOf(t, m.process())
		c.cpu += costOf(t, h.service.PID).cpu - before.cpu
		return c
	}
	with() // the first boot makes the boot options
	words := m.words()
	m.reset(generated.ResetTypeForceOff)
	var thin, flash []cost
	for pair := range pairs {
		for turn := range 2 {
			if (pair+turn)%2 == 0 {
				thin = append(thin, with())
				m.reset(generated.ResetTypeForceOff)
				continue
			}
			p := m.plain(words)
			p.console.Await(t, line)
			flash = append(flash, costOf(t, p.pid))
			p.end()
		}
	}
	for what, of := range map[string]func(cost) time.Duration{"time": func(c cost) time.Duration { return c.wall }, "time of processors": func(c cost) time.Duration { return c.cpu }} {
		var without, with, more []float64
		for pair := range pairs {
			w, o := of(thin[pair]).Seconds(), of(flash[pair]).Seconds()
			without, with, more = append(without, o), append(with, w), append(more, 100*(w/o-1))
		}
		figure(what+" to a signed program, Microsoft's dbx, variables in flash", "%s s", spread(without, "%.2f"))
		figure("  with the thin virtual BIOS (and biosv)", "%s s", spread(with, "%.2f"))
		figure("  more, of the two of a pair", "%s %%", spread(more, "%+.1f"))
	}
}

// Reads of a variable of 100 bytes by Linux (efivarfs), of many one after the other.
func figureReads(t *testing.T) {
	h := newHouse(t)
	m := h.create("reads")
	m.set("Figure", bytes.Repeat([]byte("0123456789"), 10))
	m.reset(generated.ResetTypeOn)
	words := m.words()
	ready(m)
	measure := func(console *guest.Guest) string {
		said := console.Do(t, fmt.Sprintf("run /bin/efivars time Figure-%s %d", vendor, reads))
		return strings.TrimPrefix(said[0], "| ")
	}
	figure("GetVariable of 100 bytes, by a read of efivarfs", "%s µs", measure(m.console))
	m.reset(generated.ResetTypeForceOff)
	p := m.plain(words)
	figure("  with variables in flash", "%s µs", measure(p.console))
	p.end()
}

// The service's memory while guests stand in their firmware's shell.
func figureMemory(t *testing.T) {
	h := &house{T: t, images: t.TempDir()}
	h.serve("")
	none := h.resident()
	m := h.inShell("alone")
	m.console.Await(t, inShell)
	time.Sleep(settle)
	figure("memory of biosv (VmRSS) without guests", "%.1f MiB", none)
	figure("  with one that is idle", "%.1f MiB", h.resident())
}

func figureMany(t *testing.T) {
	h := &house{T: t, images: t.TempDir()}
	h.serve("")
	none, began := h.resident(), time.Now()
	var machines []*machine
	for i := range many {
		machines = append(machines, h.inShell(fmt.Sprintf("guest%d", i)))
	}
	made := time.Since(began)
	for _, m := range machines {
		m.console.Await(t, inShell)
	}
	all := time.Since(began)
	time.Sleep(settle)
	const name = "  with %d that are idle"
	figure(fmt.Sprintf(name, many), "%.1f MiB, %.2f MiB for each", h.resident(), (h.resident()-none)/many)
	figure(fmt.Sprintf("time to %d guests: CreateDomain and ResetSystem", many), "%.2f s", made.Seconds())
	figure("  and until all are in the shell of their firmware", "%.1f s", all.Seconds())
}

const (
	inShell = "UEFI Interactive Shell"
	// settle is how long guests are left alone before memory is measured.
	settle = 10 * time.Second
)

// inShell starts a machine that has nothing to start.
func (h *house) inShell(name string) *machine {
	h.Helper()
	m := h.create(name, firmwareOnly, func(r *generated.CreateDomainRequest) { r.NetworkMode = nil })
	m.reset(generated.ResetTypeOn)
	m.connect()
	return m
}

// resident is the memory that the service has of the host, in MiB (proc(5), statm).
func (h *house) resident() float64 {
	h.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", h.service.PID))
	if err != nil {
		h.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		h.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / (1 << 20)
}

// cost is how long a process has been there, and how long it ran, in steps of 10 ms (proc(5), stat).
type cost struct{ wall, cpu time.Duration }

func costOf(t *testing.T, pid int) (c cost) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	ticks := func(field int) time.Duration {
		n, err := strconv.ParseInt(fields[field-3], 10, 64) // the first two are before
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(n) * (time.Second / 100) // USER_HZ
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	return cost{wall: time.Duration(now.Nano()) - ticks(22), cpu: ticks(14) + ticks(15)}
}

// spread is a median with the least and the greatest.
func spread(values []float64, format string) string {
	slices.Sort(values)
	text := func(v float64) string { return fmt.Sprintf(format, v) }
	return fmt.Sprintf("%s (%s - %s)", text(values[len(values)/2]), text(values[0]), text(values[len(values)-1]))
}

// words are the command line of the machine's QEMU.
func (m *machine) words() []string {
	m.Helper()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", m.process()))
	if err != nil {
		m.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
}

// plain is a QEMU without the thin virtual BIOS.
type plain struct {
	*testing.T
	pid     int
	console *guest.Guest
	cmd     *exec.Cmd
}

// plain starts one that is otherwise the machine, from its command line.
func (m *machine) plain(words []string) *plain {
	m.Helper()
	dir, err := os.MkdirTemp("", "plain") // short enough for a socket
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { os.RemoveAll(dir) })
	reply, err := m.service.Admin(m).ExportVariables(m.Context(), m.call(), &generated.ExportVariablesRequest{})
	if err != nil {
		m.Fatal(err)
	}
	for name, content := range map[string][]byte{"variables.fd": reply.VariableStore, "events.in": nil, "events.out": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			m.Fatal(err)
		}
	}
	var left []string
	for i := 0; i < len(words); i++ {
		if i+1 < len(words) && (strings.Contains(words[i+1], "vbios") || words[i] == "-runas") { // what biosv gives to another user is not given here
			i++
			continue
		}
		left = append(left, words[i])
	}
	if len(words)-len(left) < 6 {
		m.Fatalf("there was nothing to be left out of %q", words)
	}
	p := &plain{T: m.T, cmd: exec.Command(left[0], left[1:]...)}
	p.cmd.Dir = dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the signal comes when the thread ends
	if err := p.cmd.Start(); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(p.end)
	p.pid = p.cmd.Process.Pid
	var conn net.Conn
	m.within(5*time.Second, "connect to the console", func() bool {
		conn, err = net.Dial("unix", filepath.Join(dir, "console"))
		return err == nil
	})
	p.console = guest.Console(m, &watched{Conn: conn, closed: make(chan struct{})})
	return p
}

func (p *plain) end() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // it was killed
	}
}
