package libvirt

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"biosv/generated"
	"biosv/machine/firmware"
	"biosv/smm"
)

// bench is a host whose libvirt never answers, and a machine of it that is attached.
type bench struct {
	*testing.T
	host    *Host
	machine *Machine
	stop    context.CancelFunc
	started *definition // as libvirt starts it

	mu     sync.Mutex
	secure bool // Secure Boot is on
	begun  int
	taken  []string
	events []string
	broken error
	why    string // it has diverged
	log    chan string
}

// Write keeps what is logged, while somebody wants it.
func (b *bench) Write(text []byte) (int, error) {
	select {
	case b.log <- string(text):
	default:
	}
	return len(text), nil
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "libvirt") // a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bench{T: t, log: make(chan string, 1)}
	b.host = New(Config{
		Folder: filepath.Join(dir, "run"), Kept: filepath.Join(dir, "kept"), State: dir, Running: dir, Hooks: filepath.Join(dir, "hooks"), Sockets: []string{filepath.Join(dir, "none")},
		ROM: []byte("the ROM"), Variables: b, Log: slog.New(slog.NewTextHandler(b, nil)),
		Door: func(ctx context.Context, _ string, _ bool, l net.Listener, _ *firmware.Boot) error {
			<-ctx.Done()
			return l.Close()
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { b.host.Run(ctx) })
	b.stop = func() { stop(); run.Wait() }
	t.Cleanup(b.stop)
	original := parsed(t, strings.ReplaceAll(read(t, "virtio.xml"), "/var/lib/libvirt/qemu/nvram", dir))
	m, err := b.host.Open(t.Context(), smm.Domain{
		Name: "web1", Kind: generated.DomainKindLibvirt, UUID: original.uuid(), Attachment: &smm.Attachment{Address: "libvirt:qemu:///system/web1", Definition: written(t, original), Variables: filepath.Join(dir, "own.fd"), Folder: b.host.Folder},
	}, nil, b)
	if err != nil {
		t.Fatal(err)
	}
	b.machine = m.(*Machine)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	b.started = original.copied()
	b.started.attach(b.machine.parts)
	return b
}

func (b *bench) Begin(context.Context, string) ([]byte, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun++
	return []byte("rendered"), b.secure, b.broken
}

func (b *bench) TakeOver(_ context.Context, _ string, rendered, found []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken = append(b.taken, string(rendered)+"/"+string(found))
	return nil
}

func (b *bench) Starting(context.Context) (smm.Settings, error) { return nil, nil }

func (b *bench) Diverge(_ context.Context, why string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.why = why
	return nil
}

func (b *bench) Enter(context.Context, generated.GuestPhase, smm.Event) error { return nil }

func (b *bench) Report(_ context.Context, e smm.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, strings.TrimPrefix(e.MessageID, "BiosV.1.0."))
	return nil
}

// hook asks as libvirt's hook does.
func (b *bench) hook(d *definition, step ...string) error {
	b.Helper()
	return Hook(append([]string{"web1"}, step...), strings.NewReader(written(b, d)))
}

func TestAStartIsPreparedOrRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	there := func(name string) bool { _, err := os.Lstat(b.machine.parts.at(name)); return err == nil }
	if err := b.hook(b.started, "stopped", "end"); err != nil || b.begun != 0 {
		t.Errorf("another step: %v, %d", err, b.begun)
	}
	if err := b.hook(b.machine.original, "prepare", "begin"); err != nil || b.begun != 0 {
		t.Errorf("a machine that is not attached: %v, %d", err, b.begun)
	}
	b.broken = errors.New("the disk is full")
	if err := b.hook(b.started, "prepare", "begin"); err == nil || !strings.Contains(err.Error(), "the disk is full") || there(fileFlash) || there(socketVBIOS) {
		t.Errorf("without variables: %v", err)
	}
	b.broken = nil
	if err := b.hook(b.started, "prepare", "begin"); err != nil || b.begun != 2 {
		t.Fatalf("it is not prepared: %v, %d", err, b.begun)
	}
	if flash, err := os.ReadFile(b.machine.parts.at(fileFlash)); err != nil || string(flash) != "rendered" {
		t.Errorf("the flash is %q, %v", flash, err)
	}
	if rom, err := os.ReadFile(b.machine.parts.rom); err != nil || string(rom) != "the ROM" {
		t.Errorf("the ROM is %q, %v", rom, err)
	}
	for name, mode := range map[string]fs.FileMode{fileFlash: 0o600, socketVBIOS: 0o600 | fs.ModeSocket, fileCommands: 0o600, fileEvents: 0o600, "": 0o711 | fs.ModeDir} {
		if info, err := os.Lstat(b.machine.parts.at(name)); err != nil || info.Mode() != mode {
			t.Errorf("%q: %v, %v", name, info.Mode(), err)
		}
	}
	conn, err := net.Dial("unix", b.machine.parts.at(socketVBIOS)) // and this process is no QEMU of it
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stranger is let in: %v", err)
	}
	if err := b.hook(b.started, "prepare", "begin"); err != nil || len(b.events) != 0 { // QEMU was never there
		t.Errorf("once more: %v, %q", err, b.events)
	}

	b.mu.Lock()
	b.secure = true
	b.mu.Unlock()
	kernel := b.started.copied()
	kernel.child("os").CreateElement("kernel").SetText("/boot/vmlinuz")
	if err := b.hook(kernel, "prepare", "begin"); err == nil || !strings.Contains(err.Error(), "Secure Boot is on") {
		t.Errorf("a kernel beside Secure Boot: %v", err)
	}
	other := b.started.copied()
	other.child("uuid").SetText("00000000-0000-4000-8000-000000000000")
	if err := b.hook(other, "prepare", "begin"); err == nil || !strings.Contains(err.Error(), "no such machine") {
		t.Errorf("a machine that is not known: %v", err)
	}
	b.stop()
	if err := b.hook(b.started, "prepare", "begin"); err == nil || !strings.Contains(err.Error(), "biosv is away") {
		t.Errorf("without biosv: %v", err)
	}
}

func TestABootThatEndedUnheardIsToldBeforeTheNext(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for event, want := range map[string]string{
		`{"event":"SHUTDOWN","data":{"reason":"guest-shutdown"}}`: "MachineOff", `{"event":"SHUTDOWN","data":{"reason":"guest-reset"}}`: "MachineReset", `{"timestamp":{}}`: "MachineStopped",
	} {
		if err := b.hook(b.started, "prepare", "begin"); err != nil {
			t.Fatal(err)
		}
		for _, ran := range []bool{false, true} {
			text := `{"QMP":{}}` + "\n"
			if ran {
				text += `{"event":"RESUME"}` + "\n" + event + "\n"
			}
			if err := os.WriteFile(b.machine.parts.at(fileEvents), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			b.events = nil
			if err := b.hook(b.started, "prepare", "begin"); err != nil || len(b.events) == 1 != ran {
				t.Errorf("after %s: %q, %v", text, b.events, err)
			}
		}
		if !slices.Contains(b.events, want) {
			t.Errorf("after %s: %q", event, b.events)
		}
	}
}

func TestWhatTheGuestWroteSinceTheAttachmentIsTakenOverOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	own := b.machine.domain.Attachment.Variables
	for path, content := range map[string]string{own: "now", b.machine.kept(): "then"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := b.hook(b.started, "prepare", "begin"); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.taken) != 1 || b.taken[0] != "then/now" {
		t.Errorf("taken over is %q", b.taken)
	}
}

func TestWhetherAMachineStartsAgainIsAsItsOwnerWanted(t *testing.T) {
	t.Parallel()
	virtio := read(t, "virtio.xml")
	for _, row := range []struct {
		how     firmware.End
		restart bool
		with    string // in place of on_reboot as it is
		again   bool
	}{
		{firmware.GuestReset, false, "", true}, {firmware.MonitorReset, false, "", true}, {firmware.FirmwareReset, false, "", true},
		{firmware.GuestReset, false, "<on_reboot>destroy</on_reboot>", false}, {firmware.GuestShutdown, false, "", false}, {firmware.GuestShutdown, true, "", true},
		{firmware.GuestPanic, false, "", false}, {firmware.Killed, false, "", false}, {"host-signal", false, "", false},
		{firmware.GuestPanic, false, "<on_crash>coredump-restart</on_crash>", true}, {firmware.GuestShutdown, false, "<on_poweroff>restart</on_poweroff>", true},
	} {
		m := &Machine{original: parsed(t, strings.Replace(virtio, "<on_reboot>restart</on_reboot>", or(row.with, "<on_reboot>restart</on_reboot>"), 1))}
		if strings.Contains(row.with, "on_crash") || strings.Contains(row.with, "on_poweroff") {
			m.original = parsed(t, strings.NewReplacer("<on_crash>destroy</on_crash>", "", "<on_poweroff>destroy</on_poweroff>", row.with).Replace(virtio))
		}
		if again := m.startsAgain(row.how, row.restart); again != row.again {
			t.Errorf("after %q with %q, asked for %t: %t", row.how, row.with, row.restart, again)
		}
	}
}

func or(text, instead string) string {
	if text == "" {
		return instead
	}
	return text
}

func TestAnAddressIsOfThisHostsLibvirt(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"libvirt:qemu:///system/web1": "web1", "libvirt:qemu:///system/a b": "a b", "libvirt:qemu:///system/": "", "libvirt:qemu:///session/web1": "", "qemu:///system/web1": "",
		"libvirt:qemu+ssh://host/system/web1": "", "libvirt:qemu:///system/a/b": "", "": "", "libvirt:qemu:///system/" + strings.Repeat("a", 256): "",
	} {
		if got, err := parseAddress(address); got != want || (err == nil) != (want != "") {
			t.Errorf("%q is of %q, %v", address, got, err)
		}
	}
}

// The hook lets machines that are not attached start, whatever became of biosv.
func TestTheHookIsInstalledAndHarmless(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, err := InstallHook(filepath.Join(dir, "hooks"), filepath.Join(dir, "none"))
	if err != nil {
		t.Fatal(err)
	}
	attached := parsed(t, read(t, "virtio.xml"))
	attached.attach(theirs)
	for text, refused := range map[string]bool{read(t, "virtio.xml"): false, written(t, attached): true} {
		cmd := exec.Command(path, "web1", "prepare", "begin", "-")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); (err != nil) != refused || refused && !bytes.Contains(out, []byte("web1 is attached to it")) {
			t.Errorf("without the program, attached %t: %v, %s", refused, err, out)
		}
	}
	if _, err := InstallHook(filepath.Join(dir, "hooks"), "/bin/false"); err != nil {
		t.Errorf("again: %v", err)
	}
	for step, refused := range map[string]bool{"prepare": true, "started": false} {
		if err := exec.Command(path, "web1", step, "begin", "-").Run(); (err != nil) != refused {
			t.Errorf("%s: %v", step, err)
		}
	}
	if names, err := os.ReadDir(filepath.Join(dir, "hooks", "qemu.d")); err != nil || len(names) != 1 {
		t.Errorf("libvirt would run %v, %v", names, err)
	}
}
