package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// user gives the user that a machine's processes have: its number is that of the run folder's group, and of no other one's.
// It is 0 where they have that of biosv, which is all that anybody but root can give.
func (h *Host) user(f *folder) (int, error) {
	if h.Users == 0 {
		return 0, nil
	}
	h.naming.Lock()
	defer h.naming.Unlock()
	own, err := group(f.path)
	if err != nil || h.gives(own) {
		return own, err
	}
	entries, err := os.ReadDir(h.Folder)
	if err != nil {
		return 0, err
	}
	taken := map[int]bool{}
	for _, e := range entries {
		if id, err := group(filepath.Join(h.Folder, e.Name())); err == nil { // one that has gone has no group
			taken[id] = true
		}
	}
	for id := h.FirstUser; h.gives(id); id++ {
		if !taken[id] {
			return id, f.file.Chown(-1, id)
		}
	}
	return 0, fmt.Errorf("there are more machines than users for them, of which there are %d", h.Users)
}

// tpmUser is the user that a machine's TPM has, beside the machine's own: they cannot read each other's memory and files.
func (h *Host) tpmUser(user int) int { return user + h.Users }

func (h *Host) gives(user int) bool { return user >= h.FirstUser && user < h.FirstUser+h.Users }

func group(path string) (int, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Gid), nil
	}
	return 0, fmt.Errorf("the group of %s cannot be read", path)
}
