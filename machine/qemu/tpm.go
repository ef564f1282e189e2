package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"biosv/fault"
	"biosv/generated"
	"biosv/internal/durable"
	"biosv/machine/firmware"
	"biosv/smm"
)

// A machine's TPM is a process of swtpm, one for each boot, as switching a machine on resets its TPM. It outlives biosv,
// and ends when QEMU lets go of it, whatever ended that. It has a user of its own. Its state is its folder below
// [Config.TPMs], named by the domain's UUID, and stays until the domain is destroyed.
type tpm struct {
	process *process
	state   string      // its file
	synced  os.FileInfo // of it, as it is on disk
}

const (
	fileState      = "tpm2-00.permall" // of a state's folder; swtpm's own name
	fileUnfinished = ".unfinished"     // behind a folder's name
)

// What swtpm is given beside its arguments, from 3 on.
const (
	swtpmSocket = 3
	swtpmLog    = 4 // it takes none of the standard ones
)

const (
	// swtpmTime is how long a TPM may take to end after its machine has.
	swtpmTime = 2 * time.Second
	// syncEvery is how long what a guest keeps in its TPM may not be on disk: swtpm writes it before it answers, beside
	// and renamed, and leaves the rest to the system.
	syncEvery = 5 * time.Second
)

// swtpmTools finds what a TPM needs, and says what to install where it is missing.
func swtpmTools() error {
	for program, of := range map[string]string{"swtpm": "swtpm", "swtpm_setup": "swtpm-tools"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w; install the Debian package %s", err, of)
		}
	}
	return nil
}

func (m *Machine) tpmFolder() string { return filepath.Join(m.host.TPMs, m.domain.UUID) }

// swtpmLog tells swtpm's process from every other, and marks its lines.
func (m *Machine) swtpmLog() []string {
	return []string{"--log", fmt.Sprintf("fd=%d,level=1,prefix=%s: ", swtpmLog, m.domain.Name)}
}

// startTPM switches the TPM on, and makes it where there is none. Its socket is in the run folder, for QEMU.
func (m *Machine) startTPM(ctx context.Context, user int, log *os.File) (t *tpm, err error) {
	if err := m.provide(ctx); err != nil {
		return nil, err
	}
	l, err := m.folder.listen(socketTPM)
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	socket, err := l.File()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	arguments := append([]string{"socket", "--tpm2", "--tpmstate", "dir=.,mode=0600", "--ctrl", fmt.Sprintf("type=unixio,fd=%d", swtpmSocket),
		"--pid", "file=" + filePID, "--terminate"}, m.swtpmLog()...)
	if user != 0 {
		user = m.host.tpmUser(user)
		arguments = append(arguments, "--runas", strconv.Itoa(user))
	}
	if err := giveState(m.tpmFolder(), user); err != nil {
		return nil, err
	}
	t = &tpm{state: filepath.Join(m.tpmFolder(), fileState)}
	if t.process, err = launch("swtpm", arguments, m.tpmFolder(), user, log, socket, log); err != nil {
		return nil, fmt.Errorf("start the TPM: %w", err)
	}
	return t, nil
}

// giveState makes a folder with the state of a TPM a user's, unless that is 0. Its swtpm makes files in it, and begins as
// root: whoever broke out of one before may have left something else there.
func giveState(dir string, user int) error {
	if user == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := giveFile(filepath.Join(dir, e.Name()), user); err != nil {
			return fault.Unavailable(fault.TPMUnavailable, 0, "In the folder of the machine's TPM is what no TPM makes; find out where it comes from, and take it away: %v.", err)
		}
	}
	return os.Lchown(dir, user, user)
}

// giveFile makes a file a user's, if it has one name only.
func giveFile(path string, user int) error {
	f, err := firmware.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Nlink != 1 {
		return fmt.Errorf("%s has more names than one", path)
	}
	return f.Chown(user, user)
}

// provide makes the state of a TPM, whole or not at all.
func (m *Machine) provide(ctx context.Context) error {
	dir := m.tpmFolder()
	state := filepath.Join(dir, fileState)
	if _, err := os.Lstat(state); err == nil {
		return nil
	}
	if _, err := os.Lstat(dir); err == nil {
		// swtpm would make a new TPM without a word.
		return fault.Unavailable(fault.TPMUnavailable, 0, "The state of the machine's TPM is gone (%s). Bring it back from a copy; or take its folder away, and the machine has a new TPM.", state)
	}
	if err := os.MkdirAll(m.host.TPMs, 0o700); err != nil {
		return err
	}
	beside := dir + fileUnfinished
	if err := errors.Join(os.RemoveAll(beside), os.Mkdir(beside, 0o700)); err != nil {
		return err
	}
	setup := exec.CommandContext(ctx, "swtpm_setup", "--tpm2", "--tpmstate", beside, "--createek", "--pcr-banks", "sha256", "--logfile", m.folder.at(fileSetup))
	if out, err := setup.CombinedOutput(); err != nil {
		return fmt.Errorf("make a TPM: swtpm_setup: %w: %s (more in %s)", err, bytes.TrimSpace(out), m.folder.at(fileSetup))
	}
	if err := errors.Join(durable.SyncFile(filepath.Join(beside, fileState)), durable.SyncFolder(beside), os.Rename(beside, dir), durable.SyncFolder(m.host.TPMs)); err != nil {
		return fmt.Errorf("make a TPM: %w", err)
	}
	return m.supervisor.Report(ctx, smm.Event{
		Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.TpmCreated", Message: "The machine has a new TPM. Nothing that was sealed to another one can be opened with it.",
	})
}

// findTPM finds the TPM that runs; nil where there is none.
func (m *Machine) findTPM() (*tpm, error) {
	pid, err := readPID(filepath.Join(m.tpmFolder(), filePID))
	if pid == 0 {
		return nil, err
	}
	p, err := adopt(pid, m.swtpmLog()...)
	if p == nil {
		return nil, err
	}
	return &tpm{process: p, state: filepath.Join(m.tpmFolder(), fileState)}, nil
}

// readPID reads a process's number from a file; 0 where there is none.
func readPID(file string) (int, error) {
	const most = 20 // digits, and the line's end
	text, err := firmware.ReadFile(file, most)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	return pid, nil
}

// close lets go of the TPM, and brings its state to the disk. Where its machine has ended it waits for the TPM, which
// ends by itself then.
func (t *tpm) close(ended bool) error {
	if ended {
		select {
		case <-t.process.ended:
		case <-time.After(swtpmTime):
			t.process.kill()
			<-t.process.ended
		}
	}
	t.process.forget()
	return t.sync()
}

// clean takes everything away that a boot left.
func (m *Machine) clean() error {
	t, err := m.findTPM()
	if t != nil {
		err = t.close(true)
	}
	return errors.Join(err, m.folder.clean())
}

// sync brings the state to the disk where it has changed.
func (t *tpm) sync() error {
	f, err := firmware.Open(t.state)
	if err != nil {
		return fmt.Errorf("the state of a TPM: %w", err)
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil {
		return fmt.Errorf("the state of a TPM: %w", err)
	}
	if t.synced != nil && os.SameFile(now, t.synced) && now.ModTime().Equal(t.synced.ModTime()) {
		return nil
	}
	if err := errors.Join(f.Sync(), durable.SyncFolder(filepath.Dir(t.state))); err != nil {
		return fmt.Errorf("the state of a TPM: %w", err)
	}
	t.synced = now
	return nil
}

// watch keeps the state durable while the boot runs, and tells of a TPM that ends before its machine does: the guest
// goes on without it, and each of its commands fails.
func (t *tpm) watch(ctx context.Context, b *boot) {
	m := b.machine
	every := time.NewTicker(syncEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			if err := t.sync(); err != nil {
				m.log.Error("what a guest keeps in its TPM is not on disk", "error", err)
			}
		case <-t.process.ended:
			select {
			case <-ctx.Done():
			case <-b.process.ended: // as it should be
			case <-time.After(swtpmTime):
				m.lostTPM(ctx)
			}
			return
		}
	}
}

func (m *Machine) lostTPM(ctx context.Context) {
	if err := m.supervisor.Report(ctx, smm.Event{
		Severity: generated.EventSeverityCritical, MessageID: "BiosV.1.0.TpmFailed", Message: "The machine's TPM has ended without having been asked to, and the machine has none until its next start.",
	}); err != nil && ctx.Err() == nil {
		m.log.Error("an event of a machine could not be written", "event", "the TPM has ended", "error", err)
	}
}

// Destroy takes away what the machine keeps outside of the store; it is off, and closed.
func (m *Machine) Destroy() error {
	return errors.Join(os.RemoveAll(m.tpmFolder()+fileUnfinished), os.RemoveAll(m.tpmFolder()))
}
