package qemu

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// fakeName is what the test's own program is called where it stands for QEMU.
const fakeName = "fake-qemu"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == fakeName {
		if err := (&fake{status: "running"}).run(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// fake is a QEMU of which there is nothing but its monitors and its sockets. It does what it is told on the socket of
// the console, line by line:
//
//	status NAME   what query-status gives from now on
//	event JSON    an event, for both monitors
//	silence       the monitor answers nothing more
//	memory AGO TOTAL AVAILABLE FREE    what the guest said of its memory, and how long ago
//	heard         gives the commands that the monitor got
//	vbios TEXT    says it on the socket of the thin virtual BIOS, and gives the answer
//	tpm HEX       gives the machine's TPM a command, and gives its answer
//	try PATH      says whether it can do anything with a file, as whoever broke out of QEMU would try
//	plant NAME    says whether it can make a link and a pipe of a name, or take away what is there
//	signal PID    says whether it can send a process a signal
//	exit          ends
type fake struct {
	mu       sync.Mutex
	status   string
	silent   bool
	memory   string // what qom-get gives of the balloon
	heard    []string
	monitors []net.Conn
	tpm      net.Conn
}

func (f *fake) run() error {
	if strings.Contains(strings.Join(os.Args, " "), "-m 666") {
		return fmt.Errorf("fake-qemu: cannot set up guest memory")
	}
	if strings.Contains(strings.Join(os.Args, " "), "-name probe") {
		rom, err := os.ReadFile(fileROM)
		if err != nil || string(rom) != "works" {
			return fmt.Errorf("KVM internal error. Suberror: 1 %w", err)
		}
		if _, err = (&fake{}).obey("vbios hello"); err == nil {
			err = errors.New("it was answered")
		}
		return err
	}
	if err := os.WriteFile(filePID, fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		return err
	}
	control, err := net.Listen("unix", socketSerial)
	if err != nil {
		return err
	}
	monitor, err := net.Listen("unix", socketQMP)
	if err != nil {
		return err
	}
	if err := become(os.Args); err != nil {
		return err
	}
	if strings.Contains(strings.Join(os.Args, " "), "-tpmdev emulator") {
		if f.tpm, err = switchOn(); err != nil {
			return err
		}
	}
	go f.accept(monitor) // as QEMU does, when its devices are there
	for {
		conn, err := control.Accept()
		if err != nil {
			return err
		}
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			answer, err := f.obey(lines.Text())
			if err != nil {
				answer = err.Error()
			}
			fmt.Fprintln(conn, answer)
		}
	}
}

func (f *fake) obey(line string) (answer string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "status":
		f.status = rest
	case "event":
		return "", f.tell(rest)
	case "memory":
		var ago string
		var total, available, free uint64
		if _, err := fmt.Sscan(rest, &ago, &total, &available, &free); err != nil {
			return "", err
		}
		d, err := time.ParseDuration(ago)
		f.memory = fmt.Sprintf(`{"last-update": %d, "stats": {"stat-total-memory": %d, "stat-available-memory": %d, "stat-free-memory": %d}}`, time.Now().Add(-d).Unix(), total, available, free)
		return "", err
	case "silence":
		f.silent = true
	case "heard":
		return strings.Join(f.heard, " "), nil
	case "vbios":
		conn, err := net.Dial("unix", socketVBIOS)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		fmt.Fprintln(conn, rest)
		answer, err := bufio.NewReader(conn).ReadString('\n')
		return strings.TrimSpace(answer), err
	case "tpm":
		command, err := hex.DecodeString(rest)
		if err != nil {
			return "", err
		}
		answer, err := transport.FromReadWriter(f.tpm).Send(command)
		return hex.EncodeToString(answer), err
	case "try":
		return try(rest), nil
	case "plant":
		return plant(rest), nil
	case "signal":
		pid, err := strconv.Atoi(rest)
		if err == nil {
			err = unix.Kill(pid, 0)
		}
		return fmt.Sprint(err), nil
	case "exit":
		os.Exit(0)
	}
	return "", nil
}

// become takes the user that the option runas names, when what needs more is open: as QEMU does, but for its sandbox.
func become(arguments []string) error {
	i := slices.Index(arguments, "-runas")
	if i < 0 {
		return nil
	}
	user, group, _ := strings.Cut(arguments[i+1], ":")
	uid, err := strconv.Atoi(user)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(group)
	if err != nil {
		return err
	}
	return errors.Join(syscall.Setgid(gid), syscall.Setgroups([]int{gid}), syscall.Setuid(uid))
}

// denied is what try says where it is not allowed to do anything.
const denied = "denied"

func try(path string) string {
	closed := func(c io.Closer, err error) error {
		if err == nil {
			err = c.Close()
		}
		return err
	}
	var could []string
	for what, do := range map[string]func() error{
		"read":    func() error { f, err := os.Open(path); return closed(f, err) },
		"write":   func() error { f, err := os.OpenFile(path, os.O_WRONLY, 0); return closed(f, err) },
		"connect": func() error { c, err := net.Dial("unix", path); return closed(c, err) },
	} {
		if err := do(); !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EISDIR) {
			could = append(could, fmt.Sprintf("%s: %v", what, err))
		}
	}
	if could == nil {
		return denied
	}
	slices.Sort(could)
	return strings.Join(could, "; ")
}

func plant(name string) string {
	var could []string
	for what, do := range map[string]func() error{
		"link":   func() error { return os.Symlink("../../state.db", name) },
		"pipe":   func() error { return unix.Mkfifo(name, 0o600) },
		"rename": func() error { return os.Rename(name, name+".old") },
		"remove": func() error { return os.Remove(name) },
	} {
		if err := do(); !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			could = append(could, fmt.Sprintf("%s: %v", what, err))
		}
	}
	if could == nil {
		return denied
	}
	slices.Sort(could)
	return strings.Join(could, "; ")
}

// switchOn gives the TPM on its socket its power, as QEMU does (swtpm(8), swtpm_ioctls(3)): it hands it the other end of
// the connection on which commands go, and has it begin.
func switchOn() (net.Conn, error) {
	const setDataFD, begin = 0x10, 0x02
	control, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socketTPM, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours := os.NewFile(uintptr(ends[0]), "tpm")
	defer ours.Close()
	for _, message := range []struct{ text, handles []byte }{
		{[]byte{0, 0, 0, setDataFD}, unix.UnixRights(ends[1])}, {[]byte{0, 0, 0, begin, 0, 0, 0, 0}, nil}, // with no flags
	} {
		if _, _, err := control.WriteMsgUnix(message.text, message.handles, nil); err != nil {
			return nil, err
		}
		var result [4]byte
		if _, err := io.ReadFull(control, result[:]); err != nil || result != [4]byte{} {
			return nil, fmt.Errorf("the TPM answers %x, %w", result, err)
		}
	}
	if err := unix.Close(ends[1]); err != nil {
		return nil, err
	}
	return net.FileConn(ours)
}

// busy starts a thread that always runs, and gives it.
func (f *fake) busy() int {
	thread := make(chan int)
	go func() {
		runtime.LockOSThread()
		thread <- unix.Gettid()
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		}
	}()
	return <-thread
}

// tell gives an event to both monitors.
func (f *fake) tell(event string) error {
	events, err := os.OpenFile(fileEvents, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer events.Close()
	if _, err := fmt.Fprintln(events, event); err != nil {
		return err
	}
	for _, m := range f.monitors {
		fmt.Fprintln(m, event)
	}
	return nil
}

func (f *fake) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprintln(conn, `{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}`)
		f.mu.Lock()
		f.monitors = append(f.monitors, conn)
		f.mu.Unlock()
		go func() {
			for commands := json.NewDecoder(conn); ; {
				var command struct{ Execute string }
				if commands.Decode(&command) != nil {
					return
				}
				f.answer(conn, command.Execute)
			}
		}()
	}
}

func (f *fake) answer(conn net.Conn, command string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent {
		return
	}
	f.heard = append(f.heard, command)
	switch command {
	case "query-status":
		fmt.Fprintf(conn, "{\"return\": {\"status\": %q}}\n", f.status)
	case "quit":
		fmt.Fprintln(conn, `{"return": {}}`)
		_ = f.tell(`{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}`)
		os.Exit(0)
	case "query-cpus-fast":
		fmt.Fprintf(conn, "{\"return\": [{\"cpu-index\": 0, \"thread-id\": %d}]}\n", f.busy())
	case "qom-get":
		if f.memory == "" {
			f.memory = `{"last-update": 0, "stats": {"stat-total-memory": 18446744073709551615, "stat-available-memory": 18446744073709551615, "stat-free-memory": 18446744073709551615}}`
		}
		fmt.Fprintf(conn, "{\"return\": %s}\n", f.memory)
	case "inject-nmi":
		fmt.Fprintln(conn, `{"error": {"class": "GenericError", "desc": "machine does not provide NMIs"}}`)
	default:
		fmt.Fprintln(conn, `{"return": {}}`)
	}
}
