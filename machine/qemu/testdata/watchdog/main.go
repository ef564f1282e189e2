// Command watchdog starts the machine's watchdog and falls silent (Linux, Documentation/watchdog/watchdog-api.rst).
package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	f, err := os.OpenFile("/dev/watchdog", os.O_WRONLY, 0)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, 1) // s
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	for { // with the file open
		time.Sleep(time.Hour)
	}
}
