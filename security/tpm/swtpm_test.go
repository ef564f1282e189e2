package tpm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A service that was killed leaves its swtpm behind, which ends when it notices.
func TestAnEarlierSwtpmIsWaitedFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	earlier, _, err := startChild(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := flushAll(earlier); err != nil { // it answers, so it has its lock
		t.Fatal(err)
	}
	ended := make(chan error)
	time.AfterFunc(50*time.Millisecond, func() {
		ended <- errors.Join(earlier.conn.Close(), earlier.control.Close(), earlier.cmd.Wait())
	})
	next, fresh, err := startChild(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := flushAll(next); err != nil {
		t.Error(err)
	}
	if fresh {
		t.Error("the TPM is a new one")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := next.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, stateFolder, lockFile)); err != nil {
		t.Errorf("swtpm has another lock than is waited for: %v", err)
	}
}
