// Command init is the first process of the guests that tests start: it makes a bare kernel into a place where
// programs run, does what it is told, and reports on the console. It is a single static program, so that a guest
// needs nothing but it.
//
// What it is told are lines, each a command with its arguments (commands.go; testdata/guest/README.md has them too).
// Those of the file /script of the initrd come first: the first that fails ends the guest. Without that
// file they are the kernel command line's words after "--", where a word ";" ends a command. Then it obeys the
// console, line by line, and a command that fails is only reported.
//
// Everything it says itself begins with "guest: ", and every command ends with "guest: done" or "guest: failed: ".
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	scriptFile   = "/script"
	moduleFolder = "/modules" // *.ko, loaded in the order of their names
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is the first process of a guest; testdata/guest/README.md says how to start one")
		os.Exit(2)
	}
	g := &guest{out: os.Stdout, programs: map[string]*program{}}
	if err := g.begin(); err != nil {
		g.say("failed: begin: %v", err)
		g.end(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	script, driven, err := script()
	if err != nil {
		g.say("failed: read the script: %v", err)
		g.end(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	if driven { // a program reads the console: what it types must not stand between what it reads
		quiet()
	}
	for _, line := range script {
		if !g.obey(line) {
			g.end(unix.LINUX_REBOOT_CMD_POWER_OFF)
		}
	}
	g.say("ready") // what is typed before is lost
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		g.obey(lines.Text())
	}
	for { // nobody is there any more; the programs go on
		_ = unix.Pause()
	}
}

// script gives the commands to begin with, and says whether they were put into the initrd.
func script() (lines []string, driven bool, err error) {
	text, err := os.ReadFile(scriptFile)
	if err == nil {
		return strings.Split(string(text), "\n"), true, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	return strings.Split(strings.Join(os.Args[1:], " "), ";"), false, nil
}

// guest is the machine that this process is the first of.
type guest struct {
	speaking sync.Mutex
	out      *os.File
	root     string // what programs see as /; empty for the initrd

	mu       sync.Mutex
	programs map[string]*program // that run in the background
}

func (g *guest) say(format string, args ...any) { g.line("guest: " + fmt.Sprintf(format, args...)) }

// line writes a line whole, whoever else speaks.
func (g *guest) line(text string) {
	g.speaking.Lock()
	defer g.speaking.Unlock()
	fmt.Fprintln(g.out, text)
}

// begin mounts what the kernel has to tell, and loads the modules that the initrd brought.
func (g *guest) begin() error {
	for _, m := range []struct{ kind, dir, needs string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", ""},
		{"tmpfs", "/run", ""},
		{"tmpfs", "/tmp", ""},
		{"securityfs", "/sys/kernel/security", "/sys/kernel/security"},
	} {
		if _, err := os.Stat(m.needs); m.needs != "" && err != nil {
			continue
		}
		if err := mount(m.kind, m.dir, m.kind, ""); err != nil {
			return err
		}
	}
	modules, err := filepath.Glob(moduleFolder + "/*.ko")
	if err != nil {
		return err
	}
	for _, m := range modules {
		if err := load(m); err != nil {
			return err
		}
		if strings.HasSuffix(m, "evdev.ko") {
			if err := g.obeyButton(); err != nil {
				return err
			}
		}
	}
	// Its file system may be one of the modules, so it comes last; only a guest with UEFI has it.
	if _, err := os.Stat("/sys/firmware/efi/efivars"); err == nil {
		return mount("efivarfs", "/sys/firmware/efi/efivars", "efivarfs", "")
	}
	return nil
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", filepath.Base(path), err)
	}
	return nil
}

// quiet stops the console from repeating what is typed.
func quiet() {
	t, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return // it is no terminal, and repeats nothing
	}
	t.Lflag &^= unix.ECHO | unix.ECHONL
	_ = unix.IoctlSetTermios(0, unix.TCSETS, t) // what it repeats is only in the way
}

// end stops the programs, takes the disks off and leaves.
func (g *guest) end(how int) {
	g.mu.Lock()
	names := make([]string, 0, len(g.programs))
	for name := range g.programs {
		names = append(names, name)
	}
	g.mu.Unlock()
	for _, name := range names {
		if err := g.stop([]string{name}); err != nil {
			g.say("stop %s: %v", name, err)
		}
	}
	g.unmountAll()
	unix.Sync()
	if err := unix.Reboot(how); err != nil {
		g.say("leave: %v", err)
	}
	select {}
}
