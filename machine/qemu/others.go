package qemu

import (
	"errors"
	"os"
	"path/filepath"

	"biosv/smm"
)

// EndOthers ends machines that run and are none of the domains, and gives their names: the state may have been replaced
// by one from before they were made, and nobody would watch over them. It is called when no machine is open. Whoever
// brings the later state back finds them off, with their disks and TPMs.
func (h *Host) EndOthers(domains []smm.Domain) (ended []string, err error) {
	uuids := map[string]string{}
	for _, d := range domains {
		if d.VirtualMachine != nil {
			uuids[d.Name] = d.UUID
		}
	}
	folders, err := os.ReadDir(h.Folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var errs []error
	for _, f := range folders {
		ran, err := h.endOther(f.Name(), uuids[f.Name()])
		if ran {
			ended = append(ended, f.Name())
		}
		errs = append(errs, err)
	}
	return ended, errors.Join(errs...)
}

// endOther ends the machine of a run folder unless it is that of the domain with a UUID, which may be empty. It says
// whether one ran.
func (h *Host) endOther(name, uuid string) (ran bool, err error) {
	dir := filepath.Join(h.Folder, name)
	pid, err := readPID(filepath.Join(dir, filePID))
	if pid == 0 {
		return false, err
	}
	if uuid != "" {
		if p, err := adopt(pid, "-uuid", uuid); p != nil || err != nil {
			if p != nil {
				p.forget()
			}
			return false, err
		}
	}
	p, err := adopt(pid, "-name", name)
	if p == nil {
		return false, err
	}
	p.end()
	p.forget()
	return true, os.RemoveAll(dir)
}
