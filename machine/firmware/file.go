package firmware

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a file that QEMU's user has, or could put something else in the place of: no link is followed, nothing but a
// file is opened, and nothing is waited for.
func Open(path string) (*os.File, error) { return open(path, os.O_RDONLY) }

func open(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, how|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file: %s", path, info.Mode())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadFile reads a file that [Open] opens and that has at most so many bytes.
func ReadFile(path string, most int64) ([]byte, error) {
	content, err := read(path, most+1, false)
	if err == nil && int64(len(content)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return content, err
}

// ReadEnd reads the last bytes of a file that [Open] opens, at most so many.
func ReadEnd(path string, most int64) ([]byte, error) { return read(path, most, true) }

func read(path string, most int64, end bool) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	from := int64(0)
	if end {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		from = max(0, info.Size()-most)
	}
	content, err := io.ReadAll(io.NewSectionReader(f, from, most))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return content, nil
}

// mostEvents is how much of the end of what a second monitor wrote is read; more of it is not kept on disk ([Trim]).
const mostEvents = 1 << 20

// Trim gives back to the disk what a second monitor wrote, but for the end that is read. QEMU writes on where it was.
//
// Most events that a guest can cause have a rate in QEMU. Those of pvpanic (GUEST_CRASHLOADED) and of hotplug
// (ACPI_DEVICE_OST) have none: each costs a line, and a guest can write its registers as fast as it likes.
func Trim(path string) error {
	f, err := open(path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() <= 2*mostEvents {
		return err
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, info.Size()-mostEvents); err != nil {
		return fmt.Errorf("trim %s: %w", path, err)
	}
	return nil
}
