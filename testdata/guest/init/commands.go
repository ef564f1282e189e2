package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// command is what a guest can be told to do.
type command struct {
	name      string
	arguments string
	least     int // arguments that it needs at least
	most      int // 0: any number
	do        func(*guest, []string) error
}

var commands []command

func init() { // it would refer to itself otherwise: help is one of them
	commands = []command{
		{"mount", "DEVICE DIR TYPE [OPTIONS]", 3, 4, (*guest).mount},
		{"network", "ADDRESS/BITS", 1, 1, (*guest).network},
		{"run", "PROGRAM [ARGUMENT]...", 1, 0, (*guest).run},
		{"start", "NAME PROGRAM [ARGUMENT]...", 2, 0, func(g *guest, a []string) error { return g.start(a, false) }},
		{"keep", "NAME PROGRAM [ARGUMENT]...", 2, 0, func(g *guest, a []string) error { return g.start(a, true) }},
		{"kill", "NAME [SIGNAL]", 1, 2, (*guest).kill},
		{"stop", "NAME", 1, 1, (*guest).stop},
		{"show", "FILE", 1, 1, (*guest).show},
		{"chroot", "DIR", 1, 1, (*guest).chroot},
		{"help", "", 0, 0, (*guest).help},
		{"poweroff", "", 0, 0, func(g *guest, _ []string) error { g.end(unix.LINUX_REBOOT_CMD_POWER_OFF); return nil }},
		{"reboot", "", 0, 0, func(g *guest, _ []string) error { g.end(unix.LINUX_REBOOT_CMD_RESTART); return nil }},
	}
}

// obey does what a line says, and says whether that went well. Lines that are empty or begin with # say nothing.
func (g *guest) obey(line string) bool {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return true
	}
	words, err := split(line)
	if err == nil {
		err = g.do(words[0], words[1:])
	}
	if err != nil {
		g.say("failed: %s: %v", line, err)
		return false
	}
	g.say("done: %s", line)
	return true
}

// split gives the words of a line. Blanks divide them, but for those between two single quotes.
func split(line string) (words []string, err error) {
	var word strings.Builder
	quoted, some := false, false
	for _, c := range line + " " {
		switch {
		case c == '\'':
			quoted, some = !quoted, true
		case quoted || c != ' ' && c != '\t':
			word.WriteRune(c)
			some = true
		case some:
			words = append(words, word.String())
			word.Reset()
			some = false
		}
	}
	if quoted {
		return nil, errors.New("a single quote has no other")
	}
	return words, nil
}

func (g *guest) do(name string, args []string) error {
	i := slices.IndexFunc(commands, func(c command) bool { return c.name == name })
	if i < 0 {
		return errors.New(`there is no such command; "help" lists them`)
	}
	c := commands[i]
	if len(args) < c.least || c.most > 0 && len(args) > c.most {
		return fmt.Errorf("use it as: %s %s", c.name, c.arguments)
	}
	return c.do(g, args)
}

func (g *guest) help([]string) error {
	for _, c := range commands {
		g.line("  " + c.name + " " + c.arguments)
	}
	return nil
}

// deviceTime is how long a device may take to appear.
const deviceTime = 10 * time.Second

// mount waits for the device, where it is one, and mounts it; the folder is made.
func (g *guest) mount(args []string) error {
	device, dir, kind := args[0], args[1], args[2]
	options := ""
	if len(args) > 3 {
		options = args[3]
	}
	if strings.HasPrefix(device, "/dev/") {
		if err := await(device); err != nil {
			return err
		}
	}
	return mount(device, dir, kind, options)
}

func await(path string) error {
	for end := time.Now().Add(deviceTime); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func mount(device, dir, kind, options string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var flags uintptr
	var data []string
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "":
		case "ro":
			flags |= unix.MS_RDONLY
		case "bind":
			flags |= unix.MS_BIND
		case "rbind":
			flags |= unix.MS_BIND | unix.MS_REC
		default:
			data = append(data, o)
		}
	}
	if err := unix.Mount(device, dir, kind, flags, strings.Join(data, ",")); err != nil {
		return fmt.Errorf("mount %s on %s: %w", device, dir, err)
	}
	return nil
}

// unmountAll takes off what stands on devices, the last first.
func (g *guest) unmountAll() {
	table, err := os.ReadFile("/proc/mounts")
	if err != nil {
		g.say("unmount: %v", err)
		return
	}
	lines := strings.Split(string(table), "\n")
	for _, line := range slices.Backward(lines) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[0], "/dev/") {
			continue
		}
		if err := unix.Unmount(f[1], 0); err != nil {
			g.say("unmount %s: %v", f[1], err)
		}
	}
}

// network gives the loopback interface and the first other one their addresses.
func (g *guest) network(args []string) error {
	address, err := netip.ParsePrefix(args[0])
	if err != nil || !address.Addr().Is4() {
		return fmt.Errorf("%q is no IPv4 address such as 10.0.2.15/24", args[0])
	}
	var card string
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Name() != "lo" {
			card = l.Name()
			break
		}
	}
	if card == "" {
		return errors.New("the guest has no network interface")
	}
	if err := up("lo", netip.MustParsePrefix("127.0.0.1/8")); err != nil {
		return err
	}
	return up(card, address)
}

// up gives an interface an address and switches it on (netdevice(7)).
func up(name string, address netip.Prefix) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ask := func(what uint, set func() error) {
		if err == nil {
			err = set()
		}
		if err == nil {
			err = unix.IoctlIfreq(s, what, request)
		}
	}
	mask := uint32(0xffffffff) << (32 - address.Bits())
	ask(unix.SIOCSIFADDR, func() error { return request.SetInet4Addr(address.Addr().AsSlice()) })
	ask(unix.SIOCSIFNETMASK, func() error {
		return request.SetInet4Addr([]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)})
	})
	ask(unix.SIOCGIFFLAGS, func() error { return nil })
	ask(unix.SIOCSIFFLAGS, func() error { request.SetUint16(request.Uint16() | unix.IFF_UP); return nil })
	if err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

// show prints a file, each line after "= ".
func (g *guest) show(args []string) error {
	text, err := os.ReadFile(filepath.Join("/", g.root, args[0]))
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		g.line("= " + lines.Text())
	}
	return nil
}

// chroot lets programs that are started from now on see a folder as /, with the kernel's file systems in it.
func (g *guest) chroot(args []string) error {
	if info, err := os.Stat(args[0]); err != nil {
		return err
	} else if !info.IsDir() {
		return errors.New("it is no folder")
	}
	for _, m := range []struct{ from, kind, options string }{
		{"/proc", "proc", ""}, {"/sys", "", "rbind"}, {"/dev", "", "bind"}, {"/run", "", "bind"}, {"/tmp", "", "bind"},
	} {
		if err := mount(m.from, filepath.Join(args[0], m.from), m.kind, m.options); err != nil {
			return err
		}
	}
	g.root = args[0]
	return nil
}
