package qemu

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/digitalocean/go-qemu/qmp"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine/firmware"
	"biosv/smm"
)

// boot is one boot of a machine, which is one process of QEMU.
type boot struct {
	*firmware.Boot
	machine *Machine
	process *process
	tpm     *tpm // nil where it has none

	stop context.CancelFunc // of what answers the guest
	work sync.WaitGroup

	telling sync.Mutex // held by who tells of a panic

	mu      sync.Mutex
	monitor *monitor
	again   bool // it is to start again when it has ended

	events atomic.Uint64 // how many the monitor told of
}

// startTime is how long QEMU may take until its monitor answers, on a host that is busy.
const startTime = 20 * time.Second

// begin renders the flash and starts QEMU.
func (m *Machine) begin(ctx context.Context, s setup) (b *boot, err error) {
	v := m.domain.VirtualMachine
	program, err := m.host.tools(v)
	if err != nil {
		return nil, fault.Unavailable(fault.NotOnThisHost, 0, "The machine cannot start: %v.", err)
	}
	var build generated.FirmwareBuild // empty in records of before there was a choice
	if v.FirmwareBuild != nil {
		build = *v.FirmwareBuild
	}
	code, _, err := m.host.build(build)
	if err != nil {
		return nil, err
	}
	flash, secureBoot, err := m.host.Variables.Begin(ctx, m.domain.Name)
	if err != nil {
		return nil, err
	}
	if secureBoot && v.KernelImage != nil {
		return nil, fault.Conflict(fault.KernelUnchecked, "Secure Boot is on, and would not check the kernel that this machine is started with: switch it off, or make a machine without a kernel.")
	}
	user, err := m.host.user(m.folder)
	if err != nil {
		return nil, err
	}
	arguments, err := m.arguments(m.host.accelerator(ctx, program, code, flash), code, user, s, time.Now())
	if err != nil {
		return nil, err
	}
	if err := m.clean(); err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{fileFlash: flash, fileROM: m.host.ROM, fileCommands: []byte(firmware.EventCommands), fileEvents: nil} {
		if err := os.WriteFile(m.folder.at(name), content, 0o600); err != nil {
			return nil, err
		}
	}
	log, err := os.OpenFile(m.folder.at(fileLog), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	l, err := m.folder.listen(socketVBIOS)
	if err != nil {
		return nil, err
	}
	b = m.newBoot(flash)
	if v.VirtualTpm {
		if b.tpm, err = m.startTPM(ctx, user, log); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	if err = m.folder.give(user); err == nil {
		b.process, err = launch(program, arguments, m.folder.path, user, log)
	}
	if err != nil {
		if b.tpm != nil {
			b.tpm.process.kill()
			err = errors.Join(err, b.tpm.close(true))
		}
		return nil, errors.Join(err, l.Close())
	}
	b.answer(only(l, b.process.pid), false)
	if err := b.awaitMonitor(ctx); err != nil {
		b.process.kill()
		<-b.process.ended
		b.close()
		return nil, fault.Unavailable(fault.MachineUnavailable, 0, "QEMU did not start: %v.", errors.Join(err, complaint(m.folder)))
	}
	return b, nil
}

// newBoot makes a boot whose flash was rendered as given; nil where biosv was away since.
func (m *Machine) newBoot(rendered []byte) *boot {
	return &boot{machine: m, Boot: &firmware.Boot{
		Domain: m.domain.Name, Flash: m.folder.at(fileFlash), Rendered: rendered, Variables: m.host.Variables, Supervisor: m.supervisor, Log: m.log,
	}}
}

// only lets a process connect.
func only(l *net.UnixListener, process int) firmware.Only {
	return firmware.Only{UnixListener: l, May: func(pid int) bool { return pid == process }}
}

// find finds the process that runs in the run folder; nil where there is none.
func (m *Machine) find(ctx context.Context) (*boot, error) {
	pid, err := readPID(m.folder.at(filePID))
	if pid == 0 {
		return nil, err
	}
	p, err := adopt(pid, "-uuid", m.domain.UUID)
	if p == nil {
		return nil, err
	}
	l, err := m.folder.listen(socketVBIOS)
	if err != nil {
		p.forget()
		return nil, err
	}
	b := m.newBoot(nil)
	b.process = p
	user, err := m.host.user(m.folder)
	if err == nil {
		err = m.folder.give(user) // the socket is new
	}
	if err == nil && m.domain.VirtualMachine.VirtualTpm {
		if b.tpm, err = m.findTPM(); b.tpm == nil && err == nil {
			m.lostTPM(ctx)
		}
	}
	if err != nil {
		p.forget()
		return nil, errors.Join(err, l.Close())
	}
	b.Found(ctx)
	b.answer(only(l, p.pid), true)
	if _, err := b.asked(ctx); err != nil {
		m.log.Warn("a machine that runs does not answer yet", "error", err)
	}
	return b, nil
}

// answer has the door answer the guest.
func (b *boot) answer(l net.Listener, inside bool) {
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.work.Go(func() {
		if err := b.machine.host.Door(ctx, b.machine.domain.Name, inside, l, b.Boot); err != nil && ctx.Err() == nil {
			b.machine.log.Error("a guest's requests are not answered any more", "error", err)
		}
	})
	if b.tpm != nil {
		b.work.Go(func() { b.tpm.watch(ctx, b) })
	}
}

// close lets go of the process, which may have ended.
func (b *boot) close() {
	ended := b.process.over()
	b.stop()
	b.mu.Lock()
	monitor := b.monitor
	b.monitor = nil
	b.mu.Unlock()
	if monitor != nil {
		monitor.close()
	}
	b.process.forget()
	b.work.Wait()
	if b.tpm == nil {
		return
	}
	if err := b.tpm.close(ended); err != nil {
		b.machine.log.Error("a machine's TPM", "error", err)
	}
}

// complaint is the end of what QEMU wrote.
func complaint(f *folder) error {
	const most = 1000
	text, err := firmware.ReadEnd(f.at(fileLog), most)
	if err != nil {
		return err
	}
	if len(text) == 0 {
		return errors.New("QEMU says nothing")
	}
	return errors.New(strings.TrimSpace(string(text)))
}

// awaitMonitor waits until the monitor answers.
func (b *boot) awaitMonitor(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		_, err := b.asked(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-b.process.ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// asked gives the connection to the monitor, and makes it anew where it has ended.
func (b *boot) asked(ctx context.Context) (*monitor, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.monitor != nil {
		select {
		case <-b.monitor.closed:
			b.monitor = nil
		default:
			return b.monitor, nil
		}
	}
	m, err := dial(ctx, b.machine.folder.socket(socketQMP), b.heard)
	if err != nil {
		return nil, err
	}
	b.monitor = m
	b.makeUp()
	return m, nil
}

func (b *boot) state(ctx context.Context) (generated.PowerState, error) {
	m, err := b.asked(ctx)
	if err != nil {
		return "", err
	}
	return m.state(ctx)
}

func (b *boot) run(ctx context.Context, command string) error {
	m, err := b.asked(ctx)
	if err == nil {
		err = m.run(ctx, command, nil)
	}
	if err != nil {
		return fault.Unavailable(fault.MachineUnavailable, time.Second, "QEMU does not do %s: %v.", command, err)
	}
	return nil
}

// trimEvery is after how many events what the second monitor wrote is trimmed, where that is much.
const trimEvery = 1000

// heard tells of what happens while the machine runs.
func (b *boot) heard(e qmp.Event) {
	if b.events.Add(1)%trimEvery == 0 {
		b.trim()
	}
	if firmware.StandsStill(e) {
		b.standsStill()
	}
}

// trim keeps what the second monitor writes from filling the disk.
func (b *boot) trim() {
	if err := firmware.Trim(b.machine.folder.at(fileEvents)); err != nil {
		b.machine.log.Error("what a machine's second monitor wrote stays on disk", "error", err)
	}
}

// makeUp tells of what happened while nobody was connected to the monitor.
func (b *boot) makeUp() {
	b.trim()
	stood, err := firmware.StoodStill(b.machine.folder.at(fileEvents))
	if err != nil {
		b.machine.log.Error("what a machine did meanwhile cannot be read", "error", err)
	}
	if stood {
		b.standsStill()
	}
}

// standsStill tells, once in a boot, that the operating system panicked.
func (b *boot) standsStill() {
	b.telling.Lock()
	defer b.telling.Unlock()
	m := b.machine
	if _, err := os.Lstat(m.folder.at(fileTold)); err == nil {
		return
	}
	err := m.supervisor.Report(m.life, smm.Event{
		Severity: generated.EventSeverityCritical, MessageID: "BiosV.1.0.OperatingSystemPanicked",
		Message: "The operating system panicked, and the machine stands still.",
	})
	if err == nil {
		err = create(m.folder.at(fileTold))
	}
	if err != nil && m.life.Err() == nil {
		m.log.Error("an event of a machine could not be written", "event", "the operating system panicked", "error", err)
	}
}

// create makes an empty file where there is nothing, not even a link.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// how says how the boot ended.
func (b *boot) how() firmware.End {
	how, err := firmware.LastEnd(b.machine.folder.at(fileEvents))
	if err != nil {
		b.machine.log.Error("how a machine ended cannot be read", "error", err)
	}
	return how
}

// startsAgain says whether the machine starts again after such an end.
func (b *boot) startsAgain(how firmware.End) bool {
	b.mu.Lock()
	again := b.again
	b.mu.Unlock()
	return b.machine.startsAgain(how, again)
}

func (b *boot) wantAgain(again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.again = again
}
