package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// folder is a run folder, held open: a socket in it is named by the handle, because a socket's path has 107 bytes at
// most and a folder's may have more. It is biosv's: whoever breaks out of QEMU makes, renames and takes away nothing in it.
// Its group is the machine's user ([Host.user]).
type folder struct {
	path string
	file *os.File
}

func openFolder(path string) (*folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the run folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if uid := os.Geteuid(); uid == 0 { // it was QEMU's once
		if err := f.Chown(uid, -1); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return &folder{path, f}, nil
}

// The files of a run folder.
const (
	fileFlash    = "variables.fd"
	fileROM      = "vbios.rom"
	socketVBIOS  = "vbios"
	socketQMP    = "qmp"
	socketSerial = "console"
	fileCommands = "events.in"
	fileEvents   = "events.out"
	fileTold     = "events.told" // is there when a panic was told of
	fileLog      = "log"
	filePID      = "pid"
	socketTPM    = "tpm"
	fileSetup    = "tpm.log" // of the making of a TPM
)

func (f *folder) at(name string) string { return filepath.Join(f.path, name) }

func (f *folder) socket(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.file.Fd(), name)
}

// clean takes everything away that a boot left.
func (f *folder) clean() error {
	names, err := os.ReadDir(f.path)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := os.RemoveAll(f.at(n.Name())); err != nil {
			return err
		}
	}
	return nil
}

// listen makes a socket anew.
func (f *folder) listen(name string) (*net.UnixListener, error) {
	if err := os.Remove(f.at(name)); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: f.socket(name), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", f.at(name), err)
	}
	return l, nil
}

func (f *folder) close() error { return f.file.Close() }

// give makes what QEMU reads and writes in the folder a user's, unless that is 0. The user reaches it by the working folder
// only.
func (f *folder) give(user int) error {
	if user == 0 {
		return nil
	}
	if err := errors.Join(f.file.Chown(-1, user), f.file.Chmod(0o710)); err != nil {
		return err
	}
	for _, name := range []string{fileFlash, fileROM, fileCommands, fileEvents, socketVBIOS, socketTPM} {
		if err := os.Lchown(f.at(name), user, user); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
