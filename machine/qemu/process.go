package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a process of QEMU, whoever started it.
type process struct {
	pid    int
	handle *os.File      // pidfd_open(2): no other process can be meant by it
	ended  chan struct{} // closed when it has ended, or nobody looks any more
}

// launch starts a program in a session of its own, which does not end with this one. Where user is not 0, the program
// becomes that user by itself when it has opened what it needs; it has no groups beside. Its files from 3 on are those given.
func launch(program string, arguments []string, dir string, user int, log *os.File, files ...*os.File) (*process, error) {
	cmd := exec.Command(program, arguments...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = []string{"LC_ALL=C"}
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if user != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{} // root, and no groups
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p, err := watch(cmd.Process.Pid, func() { _ = cmd.Wait() }) // how it ended is in events.out and log
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return p, err
}

// adopt gives a process that was started before, if it is the one whose command line has these arguments; nil where it
// has ended.
func adopt(pid int, arguments ...string) (*process, error) {
	p, err := watch(pid, func() {})
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	// As the handle is open, the number is not another's now if the process is the one that is meant.
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	wanted := "\x00" + strings.Join(arguments, "\x00") + "\x00"
	if err == nil && strings.Contains(string(line), wanted) {
		return p, nil
	}
	p.forget()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		err = nil
	}
	return nil, err
}

// watch waits for the end of a process; then is called first.
func watch(pid int, then func()) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the process %d: %w", pid, err)
	}
	p := &process{pid: pid, handle: os.NewFile(uintptr(fd), "pidfd"), ended: make(chan struct{})}
	raw, err := p.handle.SyscallConn()
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		if raw.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return err == nil && n == 1
		}) == nil {
			then()
		}
	}()
	return p, nil
}

// over says whether it has ended.
func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// kill ends it at once.
func (p *process) kill() { p.signal(unix.SIGKILL) }

func (p *process) signal(s unix.Signal) {
	raw, err := p.handle.SyscallConn()
	if err != nil {
		return
	}
	// One that has ended cannot be told anything, and need not be.
	_ = raw.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), s, nil, 0) })
}

// end asks it to end, and ends it at once where it does not.
func (p *process) end() {
	p.signal(unix.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(quitTime):
		p.kill()
		<-p.ended
	}
}

// forget looks no more.
func (p *process) forget() {
	_ = p.handle.Close()
	<-p.ended
}
