// Command efivars is what a guest of the tests does with its variables (Linux, Documentation/filesystems/efivarfs.rst)
// and with the serial port through which they come:
//
//	efivars list
//	efivars read NAME-GUID           what the file has, in hexadecimal, and how long it took; or the error
//	efivars write NAME-GUID HEX      attributes and data, in one write
//	efivars save FILE NAME-GUID      makes a file the variable's data, which firmware and operating system may read
//	efivars time NAME-GUID COUNT     how long a read takes on average
//	efivars median NAME-GUID MS      reads for so long, and says how often, and the median and the longest time
//	efivars storm GUID               writes for ever, and says of each write how it went and how long it took
//	efivars log TEXT                 the lines of the kernel's log that have a text
//	efivars hold DEVICE              reads a serial port for ever
//	efivars reset                    resets the machine, a moment later
package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const dir = "/sys/firmware/efi/efivars/"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "list":
		files, err := os.ReadDir(dir)
		for _, f := range files {
			fmt.Println(f.Name())
		}
		return err
	case len(args) == 2 && args[0] == "read":
		return read(args[1])
	case len(args) == 3 && args[0] == "write":
		return write(args[1], args[2])
	case len(args) == 3 && args[0] == "save":
		text, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		return write(args[2], fmt.Sprintf("07000000%x", text))
	case len(args) == 3 && args[0] == "time":
		return measure(args[1], args[2])
	case len(args) == 3 && args[0] == "median":
		return median(args[1], args[2])
	case len(args) == 2 && args[0] == "storm":
		return storm(args[1])
	case len(args) == 2 && args[0] == "log":
		return log(args[1])
	case len(args) == 2 && args[0] == "hold":
		return hold(args[1])
	case len(args) == 1 && args[0] == "reset":
		time.Sleep(100 * time.Millisecond) // the guest says that this was started
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	return fmt.Errorf("%q is no command", args)
}

func read(name string) error {
	content := make([]byte, 256<<10) // efivarfs asks for the whole variable at each read
	start := time.Now()
	n, err := readOnce(dir+name, content)
	took := time.Since(start).Microseconds()
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		fmt.Printf("%s %d\n", unix.ErrnoName(errno), took)
		return nil
	} else if err != nil {
		return err
	}
	fmt.Printf("%x %d\n", content[:n], took)
	return nil
}

func readOnce(path string, content []byte) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Read(content)
}

func write(name, text string) error {
	content, err := hex.DecodeString(text)
	if err != nil {
		return err
	}
	if err := allow(dir + name); err != nil {
		return err
	}
	f, err := os.OpenFile(dir+name, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(content)
	return err
}

// allow takes the mark off that keeps variables from being deleted by accident.
func allow(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0)
}

func measure(name, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	f, err := os.Open(dir + name)
	if err != nil {
		return err
	}
	defer f.Close()
	content := make([]byte, 64<<10)
	start := time.Now()
	for range n {
		if n, err := f.ReadAt(content, 0); n == 0 {
			return err
		}
	}
	fmt.Println(time.Since(start).Microseconds() / int64(n))
	return nil
}

func log(text string) error {
	b := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, b)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b[:n])) {
		if strings.Contains(line, text) {
			fmt.Print(line)
		}
	}
	return nil
}

func hold(device string) error {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		return err
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Cflag |= unix.CLOCAL | unix.CREAD
	t.Lflag &^= unix.ICANON | unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return err
	}
	fmt.Println("holding", device)
	for b := make([]byte, 256); ; {
		n, err := unix.Read(fd, b)
		if err != nil {
			return err
		}
		fmt.Printf("stole %d bytes\n", n)
	}
}
