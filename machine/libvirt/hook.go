package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"biosv/machine/firmware"
)

// libvirt runs the programs of /etc/libvirt/hooks/qemu.d as root at each step of each machine's life, with the machine's
// name, the step, and the definition on standard input, and starts nothing where one fails (libvirt, "Hooks for specific
// system management"). The one of ours asks biosv on a socket that only root may open, and that can do nothing else.

const (
	socketHook = "hook"
	fileLock   = "lock"
	hookTime   = 20 * time.Second
	// mostAnswers is how many starts are prepared at once.
	mostAnswers = 64
	// mostQuestion bounds what is read of a hook: a definition, as JSON.
	mostQuestion = 4 * mostDefinition
)

// question is what the hook asks of biosv, and answer what it gets.
type (
	question struct{ Definition string }
	answer   struct {
		Refused string // why there is to be no start; empty where it is prepared
	}
)

// hookFile is the hook's place among libvirt's.
func hookFile(hooks string) string { return filepath.Join(hooks, "qemu.d", "biosv") }

// hookScript lets machines that are not attached start without biosv, also where it was taken away.
const hookScript = `#!/bin/sh
# Has BIOS.v prepare the starts of the machines that are attached to it (biosv attach). Others are let pass.
[ "$2/$3" = prepare/begin ] || exit 0
if [ -x '%[1]s' ]; then exec '%[1]s' libvirt-hook "$@"; fi
if grep -q '%[2]s'; then echo "%[1]s is not there, and $1 is attached to it" >&2; exit 1; fi
`

// InstallHook puts the hook, which runs a program, among libvirt's.
func InstallHook(hooks, program string) (path string, err error) {
	path = hookFile(hooks)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	beside := filepath.Join(hooks, ".biosv.new") // libvirt runs whatever is in qemu.d
	if err := errors.Join(os.WriteFile(beside, fmt.Appendf(nil, hookScript, program, namespace), 0o755), os.Chmod(beside, 0o755)); err != nil {
		return "", err
	}
	return path, os.Rename(beside, path)
}

// hooked says what to do where the hook is missing.
func (h *Host) hooked() error {
	info, err := os.Stat(hookFile(h.Hooks))
	if err == nil && info.Mode()&0o111 != 0 {
		return nil
	}
	return fmt.Errorf("libvirt's hook %s is not there, without which no start can be prepared: run \"biosv libvirt-hook --install\" as root, and restart libvirtd, which looks for hooks only when it starts; its machines go on", hookFile(h.Hooks))
}

// InspectHook looks for the hook that runs a program. Its error says what is wrong with it; it is [fs.ErrNotExist] where
// there is none.
func InspectHook(hooks, program string) error {
	path := hookFile(hooks)
	text, err := firmware.ReadFile(path, mostDefinition)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%s cannot be run", path)
	case string(text) != fmt.Sprintf(hookScript, program, namespace):
		return fmt.Errorf("%s is that of another release, or does not run %s", path, program)
	}
	return nil
}

// AttachedMachines are the names of the machines of libvirt that are attached, by their definitions in a folder of
// libvirt's, as far as this user may read them.
func AttachedMachines(definitions string) (names []string) {
	files, _ := filepath.Glob(filepath.Join(definitions, "*.xml")) // the pattern is a good one
	for _, path := range files {
		content, err := firmware.ReadFile(path, mostDefinition)
		if err != nil {
			continue
		}
		if d, err := parse(string(content)); err == nil && d.metadata() != nil {
			names = append(names, text(d.child("name")))
		}
	}
	return names
}

// Hook is what the hook does: has biosv prepare the start of a machine that is attached to it. Its error is why the machine
// is not to start.
func Hook(arguments []string, stdin io.Reader) error {
	if len(arguments) < 3 || arguments[1] != "prepare" || arguments[2] != "begin" {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(stdin, mostDefinition+1))
	if err != nil {
		return err
	}
	d, err := parse(string(text))
	if err != nil {
		return err
	}
	m := d.metadata()
	if m == nil {
		return nil // it is not attached
	}
	conn, err := net.DialTimeout("unix", filepath.Join(attribute(m, "folder"), socketHook), hookTime)
	if err != nil {
		return fmt.Errorf("biosv is away, which has the variables of %s: start the service biosv first (%w)", arguments[0], err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(hookTime)); err != nil {
		return err
	}
	var a answer
	if err = json.NewEncoder(conn).Encode(question{string(text)}); err == nil {
		err = json.NewDecoder(io.LimitReader(conn, mostQuestion)).Decode(&a)
	}
	if err != nil {
		return fmt.Errorf("biosv does not answer: %w", err)
	}
	if a.Refused != "" {
		return fmt.Errorf("biosv refuses the start of %s: %s", arguments[0], a.Refused)
	}
	return nil
}

// await makes the hook's socket where there is none yet: a service that has no machine of libvirt needs none. The folder
// is one service's.
func (h *Host) await() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hook != nil {
		return nil
	}
	if err := h.makeFolder(); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(h.Folder, fileLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return fmt.Errorf("the folder %s is in use by another biosv: name another one with --libvirt-folder (%w)", h.Folder, err)
	}
	l, err := listen(filepath.Join(h.Folder, socketHook), os.Geteuid(), os.Getegid())
	if err != nil {
		lock.Close()
		return err
	}
	h.hook, h.lock = l, lock
	h.heard <- l
	return nil
}

// serveHook answers the hook until ctx ends.
func (h *Host) serveHook(ctx context.Context) {
	var l *net.UnixListener
	select {
	case l = <-h.heard:
	case <-ctx.Done():
		return
	}
	defer h.lock.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	var answering sync.WaitGroup
	defer answering.Wait()
	room := make(chan struct{}, mostAnswers)
	for {
		room <- struct{}{}
		conn, err := h.accept(ctx, l)
		if err != nil {
			return
		}
		answering.Go(func() {
			defer func() { conn.Close(); <-room }()
			if err := h.answerHook(ctx, conn); err != nil {
				h.Log.Warn("libvirt's hook was not answered", "error", err)
			}
		})
	}
}

// accept waits for a hook, and for better times where none can be let in, as where too many files are open. Its error is
// that there is nothing to wait for any more.
func (h *Host) accept(ctx context.Context, l *net.UnixListener) (*net.UnixConn, error) {
	const shortest, longest = 5 * time.Millisecond, time.Second
	for pause := shortest; ; pause = min(2*pause, longest) {
		conn, err := l.AcceptUnix()
		if err == nil || ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return conn, err
		}
		h.Log.Warn("libvirt's hook cannot be let in; it is tried on", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (h *Host) answerHook(ctx context.Context, conn *net.UnixConn) error {
	if cred, err := firmware.Peer(conn); err != nil {
		return err
	} else if !mayAsk(cred) {
		return fmt.Errorf("the user %d may not ask", cred.Uid)
	}
	if err := conn.SetDeadline(time.Now().Add(hookTime)); err != nil {
		return err
	}
	var q question
	if err := json.NewDecoder(io.LimitReader(conn, mostQuestion)).Decode(&q); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	var a answer
	if err := h.prepare(ctx, q); err != nil {
		a.Refused = err.Error()
	}
	return json.NewEncoder(conn).Encode(a)
}

// mayAsk lets libvirt's daemon ask, which is root, as biosv is.
func mayAsk(cred *unix.Ucred) bool { return cred.Uid == 0 || int(cred.Uid) == os.Geteuid() }

// prepare prepares the start of a machine.
func (h *Host) prepare(ctx context.Context, q question) error {
	d, err := parse(q.Definition)
	if err != nil {
		return err
	}
	id, err := uuid.Parse(d.uuid())
	if err != nil {
		return fmt.Errorf("read the machine's UUID: %w", err)
	}
	h.mu.Lock()
	m := h.machines[rpc.UUID(id)]
	h.mu.Unlock()
	if m == nil {
		return errors.New("this biosv has no such machine open: its log tells why, if it is attached; otherwise take what is left of an attachment out of its definition with virsh edit")
	}
	return m.begin(ctx, d)
}
