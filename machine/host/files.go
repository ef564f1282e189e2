package host

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"biosv/machine/host/smbios"
)

const (
	maxEntries = 4096    // of a folder
	maxLine    = 4 << 10 // bytes of a file that holds one value; sysfs gives a page
)

// readFile reads a file of at most most bytes.
func readFile(root fs.FS, name string, most int) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Files of sysfs can be polled, so Go waits for one whose driver says EAGAIN, and some drivers say it for ever.
	if d, ok := f.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = d.SetReadDeadline(time.Now().Add(2 * time.Second)) // a file that cannot be polled has no deadline
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > most {
		return nil, fmt.Errorf("read %s: it has more than %d bytes", name, most)
	}
	return b, nil
}

// text reads a file of one line. It is "" where the file cannot be read.
func (h *Host) text(name string) string {
	b, err := readFile(h.root, name, maxLine)
	if err != nil {
		return ""
	}
	return smbios.Text(string(b))
}

// number reads a file of one whole number.
func (h *Host) number(name string) (int64, bool) {
	b, err := readFile(h.root, name, maxLine)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

func (h *Host) exists(name string) bool {
	_, err := fs.Stat(h.root, name)
	return err == nil
}

// names lists a folder, in the order of numbers where names bear them: hwmon2 comes before hwmon10. A folder that
// cannot be read has none; of one that is too large, the first entries count.
func (h *Host) names(folder string) (list []string) {
	f, err := h.root.Open(folder)
	if err != nil {
		return nil
	}
	defer f.Close()
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil
	}
	entries, _ := d.ReadDir(maxEntries) // what was read before an error counts
	for _, e := range entries {
		list = append(list, e.Name())
	}
	slices.SortFunc(list, compareNames)
	return list
}

func compareNames(a, b string) int {
	x, n := cutNumber(a)
	y, m := cutNumber(b)
	if x == y && n != m {
		return n - m
	}
	return strings.Compare(a, b)
}

// cutNumber cuts the number off the end of a name; it is -1 where there is none.
func cutNumber(name string) (string, int) {
	letters := strings.TrimRight(name, "0123456789")
	n, err := strconv.Atoi(name[len(letters):])
	if err != nil {
		return name, -1
	}
	return letters, n
}

// target is the last part of where a link leads, such as the address of a device on its bus. It is "" where name
// is no link.
func (h *Host) target(name string) string {
	t, err := fs.ReadLink(h.root, name)
	if err != nil {
		return ""
	}
	return path.Base(t)
}
