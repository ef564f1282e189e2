package qemu

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
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
//	heard         gives the commands that the monitor got
//	vbios TEXT    says it on the socket of the thin virtual BIOS, and gives the answer
//	tpm HEX       gives the machine's TPM a command, and gives its answer
//	exit          ends
type fake struct {
	mu       sync.Mutex
	status   string
	silent   bool
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
	go f.accept(monitor)
	if strings.Contains(strings.Join(os.Args, " "), "-tpmdev emulator") {
		if f.tpm, err = switchOn(); err != nil {
			return err
		}
	}
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
	case "exit":
		os.Exit(0)
	}
	return "", nil
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
	case "inject-nmi":
		fmt.Fprintln(conn, `{"error": {"class": "GenericError", "desc": "machine does not provide NMIs"}}`)
	default:
		fmt.Fprintln(conn, `{"return": {}}`)
	}
}
