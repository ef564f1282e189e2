package guest

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// packages says in which Debian package each program is.
var packages = map[string]string{
	"qemu-system-x86_64": "qemu-system-x86",
	"qemu-img":           "qemu-utils",
	"swtpm":              "swtpm",
	"swtpm_setup":        "swtpm-tools",
	"mkswap":             "util-linux",
	"mke2fs":             "e2fsprogs",
	"e2fsck":             "e2fsprogs",
	"debugfs":            "e2fsprogs",
	"xmllint":            "libxml2-utils",
	"mkfs.vfat":          "dosfstools",
	"mmd":                "mtools",
	"mcopy":              "mtools",
	"clang-14":           "clang-14",
	"lld-link-14":        "lld-14",
	"sbsign":             "sbsigntool",
	"sign-efi-sig-list":  "efitools",
	"tpm2_eventlog":      "tpm2-tools",

	"hash-to-efi-sig-list": "efitools",
}

// Tool gives the path of a program; where it is missing, the test fails with the name of its package.
func Tool(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil { // not every user's search path has the folder of those for administrators
		path, err = exec.LookPath(filepath.Join("/usr/sbin", program))
	}
	if err != nil {
		t.Fatalf("%s is missing; install it with: apt-get install %s", program, packages[program])
	}
	return path
}

// process is a program that ends with this one, however this one ends.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended; err says how
	err   error
}

// start starts a program; beside runs along, and must end when the program's output does. The kernel is asked to
// end the program with the thread that started it, so one thread stays with it.
func start(cmd *exec.Cmd, beside func()) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		beside()
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, <-started
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}
