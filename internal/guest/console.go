package guest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"biosv/internal/testbed"
)

// Image gives the kernel that an EFI firmware starts, and writes its initrd to a file: for guests that somebody else
// starts. Of c, Modules, Files and Script count.
func Image(t testing.TB, c Config, initrd string) (kernel string) {
	t.Helper()
	dir := filepath.Join(testbed.Root, ".cache", "guest", "kernel")
	kernel = filepath.Join(dir, "vmlinuz")
	for _, made := range []string{kernel, filepath.Join(dir, "..", "init")} {
		if _, err := os.Stat(made); err != nil {
			t.Fatalf("%v; make it with: sh testdata/guest/build.sh kernel init", err)
		}
	}
	if err := c.writeInitrd(initrd, dir); err != nil {
		t.Fatal(err)
	}
	return kernel
}

// Console is a guest that somebody else started, as far as its console goes.
func Console(t testing.TB, console io.ReadWriteCloser) *Guest {
	t.Helper()
	g := &Guest{input: console, more: make(chan struct{})}
	read := make(chan struct{})
	go func() {
		defer close(read)
		g.read(console)
	}()
	t.Cleanup(func() {
		if err := console.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
		<-read
		if t.Failed() {
			t.Logf("the guest's console:\n%s", g.tail(80))
		}
	})
	return g
}
