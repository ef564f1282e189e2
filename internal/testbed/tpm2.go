package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TPM2 starts the software TPM of a folder under a swtpm of its own, until the test ends, and gives what runs a
// program of tpm2-tools against it: who made the TPM's keys is not who says here what they are. The service must
// have stopped. The socket's path is short, because tpm2-tools take no long one; its control socket has the name
// that they look for.
func TPM2(t testing.TB, folder string) func(name string, args ...string) ([]byte, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	var text bytes.Buffer
	swtpm := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+filepath.Join(folder, "state"),
		"--key", "file="+filepath.Join(folder, "state.key")+",mode=aes-256-cbc,format=hex",
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl", "--flags", "not-need-init,startup-clear")
	swtpm.Stderr = &text
	if err := swtpm.Start(); err != nil {
		t.Fatalf("%v: the Debian package swtpm is needed", err)
	}
	ended := make(chan struct{})
	go func() { _ = swtpm.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = swtpm.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(startTime); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(socket + ".ctrl"); err == nil {
			break
		}
		select {
		case <-ended:
			t.Fatalf("swtpm ended: %s", &text)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("swtpm does not listen")
		}
	}
	return func(name string, args ...string) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI=swtpm:path="+socket)
		cmd.Dir = dir
		out, err := cmd.Output()
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit):
			return nil, fmt.Errorf("%s: %w: %s", cmd, err, exit.Stderr)
		case err != nil:
			return nil, fmt.Errorf("%w: the Debian package tpm2-tools is needed", err)
		}
		return out, nil
	}
}
