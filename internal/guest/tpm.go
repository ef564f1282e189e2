package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TPM is a virtual TPM 2.0: a swtpm of its own, with its state in a folder. It goes on when the guest is killed,
// and a guest that is started with it again resets it, as switching on does. A guest uses it at a time.
type TPM struct {
	socket string
	dir    string
	swtpm  *process
}

// NewTPM makes a TPM with an endorsement key, or takes up the one that a folder holds. It ends with the test.
func NewTPM(t testing.TB, dir string) *TPM {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "tpm2-00.permall")); os.IsNotExist(err) {
		setup := exec.Command(Tool(t, "swtpm_setup"), "--tpm2", "--tpmstate", dir, "--createek", "--pcr-banks", "sha256", "--logfile", filepath.Join(dir, "setup.log"))
		if out, err := setup.CombinedOutput(); err != nil {
			t.Fatalf("swtpm_setup: %v\n%s", err, out)
		}
	}
	short, err := os.MkdirTemp("", "tpm") // a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	v := &TPM{socket: filepath.Join(short, "socket"), dir: dir}
	v.start(t)
	t.Cleanup(v.kill)
	return v
}

func (v *TPM) start(t testing.TB) {
	t.Helper()
	cmd := exec.Command(Tool(t, "swtpm"), "socket", "--tpm2", "--tpmstate", "dir="+v.dir+",mode=0600", "--ctrl", "type=unixio,path="+v.socket,
		"--log", "file="+filepath.Join(v.dir, "swtpm.log")+",level=1")
	var err error
	if v.swtpm, err = start(cmd, func() {}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(commandTime); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(v.socket); err == nil {
			return
		}
		select {
		case <-v.swtpm.ended:
			t.Fatalf("swtpm ended: %v (more in %s)", v.swtpm.err, filepath.Join(v.dir, "swtpm.log"))
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("swtpm made no socket within %s", commandTime)
		}
	}
}

func (v *TPM) kill() { v.swtpm.kill() }

// CutPower ends the TPM without a shutdown, as a power cut does, and switches it on again. The guest must have
// ended.
func (v *TPM) CutPower(t testing.TB) {
	t.Helper()
	v.kill()
	if err := os.Remove(v.socket); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	v.start(t)
}
