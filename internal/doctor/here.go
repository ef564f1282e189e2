package doctor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// Here sets what a [Config] needs of the very host that the program runs on, but for what only others can tell
// (SMBIOS, Sensors).
func (c *Config) Here() {
	c.Root = os.DirFS("/")
	c.Open = openDevice
	c.Writable = writable
	c.Run = run
	c.Clock = clock
	c.OpenFiles = openFiles
}

func openDevice(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func writable(folder string) bool {
	return unix.Access(folder, unix.R_OK|unix.W_OK|unix.X_OK) == nil
}

// run runs a program that ends by itself, and gives what it printed even where it failed.
func run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

// clock asks the kernel for the time, and whether anything keeps it in step (adjtimex(2)).
func clock() (time.Time, bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return time.Now(), err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

// openFiles gives the hard limit: a program of Go takes all that it allows.
func openFiles() (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("ask for the limit of open files: %w", err)
	}
	return limit.Max, nil
}
