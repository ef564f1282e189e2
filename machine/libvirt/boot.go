package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine/firmware"
	"biosv/smm"
)

// boot is one boot of a machine, which is one process of QEMU that libvirt starts.
type boot struct {
	*firmware.Boot
	stop context.CancelFunc // of what answers the guest
	work sync.WaitGroup
}

const fileMigrated = "migrated"

// begin prepares a start that libvirt is about to make: renders the flash, and listens for the guest. It is called while
// libvirt waits, and may ask libvirt nothing. The definition is the one that is started.
func (m *Machine) begin(ctx context.Context, started *definition) error {
	m.turns.Lock()
	defer m.turns.Unlock()
	if m.life.Err() != nil {
		return errors.New("biosv is about to end")
	}
	m.mu.Lock()
	leaves := m.leaves
	m.mu.Unlock()
	if leaves {
		return errors.New("it is being detached at this moment: start it when that is done")
	}
	m.conclude(ctx, unheard, false)
	if _, err := m.supervisor.Starting(ctx); err != nil {
		return err
	}
	if err := m.takeOver(ctx); err != nil {
		return err
	}
	flash, secureBoot, err := m.host.Variables.Begin(ctx, m.domain.Name)
	if err != nil {
		return err
	}
	if secureBoot && started.child("os", "kernel") != nil {
		return fault.Conflict(fault.KernelUnchecked, "Secure Boot is on, and would not check the kernel that this machine is started with: switch it off, or take <kernel> out of the definition.")
	}
	uid, gid, err := m.host.user()
	if err != nil {
		return err
	}
	if err := m.makeFolder(); err != nil {
		return err
	}
	for name, content := range map[string][]byte{fileFlash: flash, fileCommands: []byte(firmware.EventCommands), fileEvents: nil} {
		if err := errors.Join(os.WriteFile(m.parts.at(name), content, 0o600), os.Lchown(m.parts.at(name), uid, gid)); err != nil {
			return err
		}
	}
	if err := os.Remove(m.parts.at(fileMigrated)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := listen(m.parts.at(socketVBIOS), uid, gid)
	if err != nil {
		return err
	}
	m.answer(l, flash, false)
	m.mu.Lock()
	m.again, m.ordered, m.between = false, false, false
	m.mu.Unlock()
	return nil
}

// makeFolder makes the machine's folder, which belongs to biosv, so that what QEMU's user has in it stays what it is.
func (m *Machine) makeFolder() error {
	if err := m.host.makeFolder(); err != nil {
		return err
	}
	if err := os.MkdirAll(m.parts.at(""), 0o711); err != nil {
		return err
	}
	if err := os.Chmod(m.parts.at(""), 0o711); err != nil { // whatever the mask is
		return err
	}
	return m.clean()
}

// makeFolder makes the folder of all machines, with the ROM.
func (h *Host) makeFolder() error {
	if err := os.MkdirAll(h.Folder, 0o711); err != nil {
		return err
	}
	if err := os.Chmod(h.Folder, 0o711); err != nil {
		return err
	}
	if had, err := os.ReadFile(h.romFile()); err == nil && bytes.Equal(had, h.ROM) {
		return nil
	}
	beside := h.romFile() + ".new"
	if err := errors.Join(os.WriteFile(beside, h.ROM, 0o644), os.Chmod(beside, 0o644)); err != nil {
		return err
	}
	return os.Rename(beside, h.romFile())
}

// clean takes away what a boot left: without it, libvirt starts nothing where its hook did not run.
func (m *Machine) clean() error {
	var errs []error
	for _, name := range []string{fileFlash, socketVBIOS, fileCommands, fileEvents} {
		if err := os.Remove(m.parts.at(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// kept is the flash of a machine that ran when it was attached, as it was then.
func (m *Machine) kept() string { return filepath.Join(m.host.Kept, m.domain.Name+".fd") }

// takeOver takes, before the first boot here, what the guest wrote to its own flash since it was attached.
func (m *Machine) takeOver(ctx context.Context) error {
	then, err := os.ReadFile(m.kept())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	path := m.domain.Attachment.Variables
	now, err := firmware.ReadFile(path, mostFlash)
	if err == nil {
		err = m.host.Variables.TakeOver(ctx, m.domain.Name, then, now)
	}
	if err != nil {
		return fmt.Errorf("take over what the guest wrote to %s since it was attached: %w", path, err)
	}
	return os.Remove(m.kept())
}

// answer has the door answer the guest.
func (m *Machine) answer(l *net.UnixListener, rendered []byte, inside bool) *boot {
	ctx, stop := context.WithCancel(context.Background())
	b := &boot{stop: stop, Boot: &firmware.Boot{
		Domain: m.domain.Name, Flash: m.parts.at(fileFlash), Rendered: rendered, Variables: m.host.Variables, Supervisor: m.supervisor, Log: m.log,
	}}
	only := firmware.Only{UnixListener: l, May: func(pid int) bool { return pid == m.process() }}
	b.work.Go(func() {
		if err := m.open(ctx, only, inside, b); err != nil && ctx.Err() == nil {
			m.log.Error("a guest's requests are not answered any more", "error", err)
		}
	})
	m.mu.Lock()
	m.boot = b
	m.mu.Unlock()
	return b
}

// open opens the door when the guest's process has come, which tells whether it is a boot at all: one that goes on from
// memory has the flash of then, and its guest is where it was.
func (m *Machine) open(ctx context.Context, only firmware.Only, inside bool, b *boot) error {
	stop := context.AfterFunc(ctx, func() { only.Close() })
	conn, err := only.Accept()
	if err != nil {
		stop()
		return err
	}
	if goesOn(m.process()) {
		inside = true
		b.Rendered = nil
		if err := m.supervisor.Enter(ctx, generated.GuestPhaseOperatingSystem, smm.Event{
			Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.GuestPhaseUnknown",
			Message: "The guest goes on from memory that was saved. It counts as one in its operating system until the next start.",
		}); err != nil {
			m.log.Error("the phase of a guest could not be written", "error", err)
		}
	}
	if !stop() {
		conn.Close()
		return ctx.Err()
	}
	return m.host.Door(ctx, m.domain.Name, inside, &first{Only: only, conn: conn}, b.Boot)
}

// first is a listener whose first connection was accepted before.
type first struct {
	firmware.Only
	conn net.Conn
}

func (f *first) Accept() (net.Conn, error) {
	if conn := f.conn; conn != nil {
		f.conn = nil
		return conn, nil
	}
	return f.Only.Accept()
}

func (f *first) Close() error {
	if conn := f.conn; conn != nil {
		f.conn = nil
		conn.Close()
	}
	return f.Only.Close()
}

func (b *boot) close() {
	b.stop()
	b.work.Wait()
}

// process is the number of the machine's QEMU; 0 where there is none.
func (m *Machine) process() int {
	text, err := os.ReadFile(filepath.Join(m.host.Running, m.named().Name+".pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// commandLine are the words that a process was started with.
func commandLine(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	return strings.Split(string(text), "\x00")
}

// goesOn says whether a QEMU went on from memory that was saved, or came from another host, and did not boot.
func goesOn(pid int) bool {
	for _, word := range commandLine(pid) {
		if word == "-incoming" || word == "-loadvm" {
			return true
		}
	}
	return false
}

// ours says whether a QEMU was started with the thin virtual BIOS on our socket.
func (m *Machine) ours(pid int) bool {
	for _, word := range commandLine(pid) {
		if strings.HasPrefix(word, "socket,id=char"+serialAlias+",path="+m.parts.at(socketVBIOS)+",") {
			return true
		}
	}
	return false
}
