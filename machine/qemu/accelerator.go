package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"biosv/machine/firmware"
)

// The accelerators that machines run by.
const (
	kvm = "kvm"
	tcg = "tcg" // emulation, which works everywhere
)

// probeTime is how long the firmware of a probe may take to its thin virtual BIOS; with KVM it takes a second.
const probeTime = 8 * time.Second

// accelerator gives the accelerator of this host: KVM only where a guest ran by it to its thin virtual BIOS. There are
// hosts whose /dev/kvm opens and whose guests die. It is found out once, when the first machine starts.
func (h *Host) accelerator(ctx context.Context, program, code string, flash []byte) string {
	h.probing.Lock()
	defer h.probing.Unlock()
	if h.found != "" {
		return h.found
	}
	err := unix.Access(h.KVM, unix.R_OK|unix.W_OK)
	if err == nil {
		err = h.probe(ctx, program, code, flash)
	}
	switch {
	case err == nil:
		h.found = kvm
		h.Log.Info("virtual machines run by KVM")
	case ctx.Err() != nil:
		return tcg // whether it works is not known yet
	default:
		h.found = tcg
		h.Log.Warn("virtual machines are emulated, which is slow: KVM does not work here", "error", err)
	}
	return h.found
}

// probe starts a guest by KVM and waits until its thin virtual BIOS asks.
func (h *Host) probe(ctx context.Context, program, code string, flash []byte) (err error) {
	folder, err := openFolder(filepath.Join(h.Folder, ".probe")) // no domain has such a name
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder.path), folder.close()) }()
	if err := folder.clean(); err != nil {
		return err
	}
	for name, content := range map[string][]byte{fileFlash: flash, fileROM: h.ROM} {
		if err := os.WriteFile(folder.at(name), content, 0o600); err != nil {
			return err
		}
	}
	l, err := folder.listen(socketVBIOS)
	if err != nil {
		return err
	}
	defer l.Close()
	log, err := os.Create(folder.at(fileLog))
	if err != nil {
		return err
	}
	defer log.Close()
	b := &line{}
	b.add("-name", "probe", "-m", "128")
	b.base(kvm, 0, code)
	if b.err != nil {
		return b.err
	}
	p, err := launch(program, b.words, folder.path, 0, log)
	if err != nil {
		return err
	}
	asked := make(chan error, 1)
	go func() {
		conn, err := only(l, p.pid).Accept()
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		asked <- err
	}()
	defer func() {
		p.kill()
		<-p.ended
		p.forget()
		l.Close()
		if err != nil {
			<-asked
		}
	}()
	late := time.After(probeTime)
	for {
		select {
		case err := <-asked:
			asked <- err
			return err
		case <-p.ended:
			select {
			case err := <-asked: // before it ended
				asked <- err
				return err
			default:
			}
			return fmt.Errorf("a probe ended: %w", complaint(folder))
		case <-late:
			return fmt.Errorf("a probe did not come to its thin virtual BIOS within %s", probeTime)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond): // a guest that dies stays there, and QEMU writes so
			text, err := firmware.ReadEnd(folder.at(fileLog), 1<<20)
			if err != nil {
				return err
			}
			if _, after, died := strings.Cut(string(text), "KVM internal error"); died {
				detail, _, _ := strings.Cut(after, "\n")
				return fmt.Errorf("a probe died: KVM internal error%s", detail)
			}
		}
	}
}
