// Command crash ends an operating system as none should end:
//
//	crash panic    makes the kernel panic (Linux, Documentation/admin-guide/sysrq.rst)
//	crash hang     starts the watchdog, and is silent (Documentation/watchdog/watchdog-api.rst)
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if err := crash(os.Args[1:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func crash(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "panic":
		return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case len(args) == 1 && args[0] == "hang":
		watchdog, err := os.OpenFile("/dev/watchdog", os.O_WRONLY, 0) // which starts it
		if err != nil {
			return err
		}
		const seconds = 2 // the least that it takes
		if err := unix.IoctlSetPointerInt(int(watchdog.Fd()), unix.WDIOC_SETTIMEOUT, seconds); err != nil {
			return err
		}
		select {}
	}
	return fmt.Errorf("%q is no command", args)
}
