package libvirt

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"biosv/generated"
	"biosv/smm"
)

// Procedures of libvirt's protocol (libvirt, src/remote/remote_protocol.x).
const (
	procOpen, procAuthList, procRegister    = 1, 66, 316
	procDescribe, procNative, procSaveImage = 14, 136, 183
	procState, procDefine                   = 212, 350
)

// daemon answers as libvirt's daemon does, in its protocol: a packet has a length, a header, and its content in XDR.
type daemon struct {
	mu         sync.Mutex
	definition string // empty: there is no machine
	state      rpc.DomainState
	saved      bool
	on         map[uint32]func() error // what happens before a procedure is answered
}

// daemon has the bench's libvirt answer. The machine hears nothing by itself.
func (b *bench) daemon() *daemon {
	b.Helper()
	b.host.mu.Lock()
	delete(b.host.machines, b.machine.uuid)
	b.host.mu.Unlock()
	if _, err := InstallHook(b.host.Hooks, "/bin/false"); err != nil {
		b.Fatal(err)
	}
	d := &daemon{definition: written(b, b.started), state: rpc.DomainShutoff, on: map[uint32]func() error{}}
	l, err := net.Listen("unix", b.host.Sockets[0])
	if err != nil {
		b.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { d.serve(conn) })
		}
	})
	b.Cleanup(func() { l.Close(); b.stop(); work.Wait() })
	return d
}

func (d *daemon) serve(conn net.Conn) {
	var writing sync.Mutex
	var calls sync.WaitGroup
	defer calls.Wait()
	defer conn.Close()
	for {
		var head [28]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head[:]))-int64(len(head))); err != nil {
			return
		}
		calls.Go(func() {
			content, err := d.answer(binary.BigEndian.Uint32(head[12:]))
			binary.BigEndian.PutUint32(head[16:], 1) // a reply
			var refused rpc.Error
			if errors.As(err, &refused) {
				binary.BigEndian.PutUint32(head[24:], 1)
				content = numbers(refused.Code, 10, 1)
				content = append(append(content, str(refused.Message)...), numbers(2)...)
			} else if err != nil {
				conn.Close()
				return
			}
			binary.BigEndian.PutUint32(head[:], uint32(len(head)+len(content)))
			writing.Lock()
			defer writing.Unlock()
			_, _ = conn.Write(append(head[:], content...)) // whoever asked may be gone
		})
	}
}

func numbers(all ...uint32) (b []byte) {
	for _, n := range all {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

func str(s string) []byte {
	return append(append(numbers(uint32(len(s))), s...), make([]byte, -len(s)&3)...)
}

func (d *daemon) answer(procedure uint32) ([]byte, error) {
	d.mu.Lock()
	on := d.on[procedure]
	d.mu.Unlock()
	if on != nil {
		if err := on(); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	gone := rpc.Error{Code: uint32(rpc.ErrNoDomain), Message: "no such machine"}
	switch procedure {
	case procOpen:
		return nil, nil
	case procAuthList, procRegister:
		return numbers(0), nil
	case procDescribe:
		if d.definition == "" {
			return nil, gone
		}
		return str(d.definition), nil
	case procNative:
		return str("qemu"), nil
	case procSaveImage:
		if d.saved {
			return numbers(1), nil
		}
		return numbers(0), nil
	case procState:
		if d.definition == "" {
			return nil, gone
		}
		return numbers(uint32(d.state), 0), nil
	case procDefine:
		return append(str("web1"), make([]byte, 20)...), nil
	}
	return nil, rpc.Error{Code: 1, Message: "what?"}
}

// runs has a boot's QEMU have run, as its second monitor tells.
func (b *bench) runs(event string) {
	b.Helper()
	if err := b.machine.begin(b.Context(), b.started); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(b.machine.parts.at(fileEvents), []byte(`{"event":"RESUME"}`+"\n"+event+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
}

func TestHowLibvirtEndedABootIsTold(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.daemon()
	stopped := int32(rpc.DomainEventStopped)
	for _, row := range []struct {
		name  string
		heard lifecycle
		qemu  string
		told  string
		why   string // it has diverged
	}{
		{"destroyed", lifecycle{stopped, int32(rpc.DomainEventStoppedDestroyed)}, "", "MachineStopped", ""},
		{"saved", lifecycle{stopped, int32(rpc.DomainEventStoppedSaved)}, "", "MachineSaved", ""},
		{"migrated", lifecycle{stopped, int32(rpc.DomainEventStoppedMigrated)}, "", "MachineMigrated", "moved to another host"},
		{"put back to a snapshot", lifecycle{stopped, int32(rpc.DomainEventStoppedFromSnapshot)}, "", "MachineReverted", ""},
		{"panicked", lifecycle{stopped, int32(rpc.DomainEventStoppedCrashed)}, "", "OperatingSystemPanicked", ""},
		{"turned off", lifecycle{stopped, int32(rpc.DomainEventStoppedShutdown)}, `{"event":"SHUTDOWN","data":{"reason":"guest-shutdown"}}`, "MachineOff", ""},
		{"killed", lifecycle{stopped, int32(rpc.DomainEventStoppedFailed)}, "", "MachineKilled", ""},
		{"ended while biosv was away", connected, "", "MachineStopped", ""},
	} {
		b.runs(row.qemu)
		if _, err := os.Stat(b.machine.parts.at(fileMigrated)); err == nil {
			t.Errorf("%s: the next start keeps that it was moved", row.name)
		}
		b.events = nil
		b.machine.happened(t.Context(), row.heard)
		if !slices.Equal(b.events, []string{row.told}) {
			t.Errorf("%s: told is %q, not %q", row.name, b.events, row.told)
		}
		if (row.why == "") != (b.why == "") || !strings.Contains(b.why, row.why) {
			t.Errorf("%s: it has diverged: %q", row.name, b.why)
		}
		if b.machine.taken() != nil {
			t.Errorf("%s: the boot goes on", row.name)
		}
	}
}

func TestWhatOthersMadeOfAMachineIsSeen(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		spoil func(*bench, *daemon)
		why   string
	}{
		"nothing":   {func(*bench, *daemon) {}, ""},
		"undefined": {func(_ *bench, d *daemon) { d.definition = "" }, "no such machine any more"},
		"defined without a part": {func(_ *bench, d *daemon) {
			d.definition = strings.Replace(d.definition, ">destroy</on_reboot>", ">restart</on_reboot>", 1)
		}, "lacks <on_reboot>"},
		"without the hook": {func(b *bench, _ *daemon) {
			if err := os.Remove(hookFile(b.host.Hooks)); err != nil {
				b.Fatal(err)
			}
		}, "libvirt-hook --install"},
		"memory saved":             {func(_ *bench, d *daemon) { d.saved = true }, "saved its memory"},
		"running":                  {func(b *bench, d *daemon) { d.state = rpc.DomainRunning; b.process("-blockdev") }, ""},
		"from memory, or migrated": {func(b *bench, d *daemon) { d.state = rpc.DomainRunning; b.process("-incoming") }, "goes on from memory"},
		"from a snapshot":          {func(b *bench, d *daemon) { d.state = rpc.DomainPaused; b.process("-loadvm") }, "goes on from memory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			row.spoil(b, b.daemon())
			b.machine.look(t.Context())
			if (row.why == "") != (b.why == "") || !strings.Contains(b.why, row.why) {
				t.Errorf("it has diverged: %q", b.why)
			}
		})
	}
}

// process is the machine's, with a word on its command line.
func (b *bench) process(word string) {
	b.Helper()
	cmd := exec.Command("sh", "-c", "read line", word)
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	if err := os.WriteFile(filepath.Join(b.host.Running, "web1.pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		b.Fatal(err)
	}
}

func TestTheEndOfABootLeavesTheNextOneAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := b.daemon()
	for name, heard := range map[string]func(){
		"an event":     func() { b.machine.stopped(t.Context(), destroyed) },
		"a connection": func() { b.machine.find(t.Context()) },
	} {
		d.state = rpc.DomainShutoff
		b.runs("")
		b.events = nil
		asked := 0
		d.on[procState] = func() error { // the next boot begins after libvirt has looked, and before it answers
			if asked++; asked == 1 {
				return b.machine.begin(context.Background(), b.started)
			}
			d.state = rpc.DomainPaused
			return nil
		}
		heard()
		if _, err := os.Stat(b.machine.parts.at(fileFlash)); err != nil || b.machine.boot == nil {
			t.Errorf("after %s, the next boot is not prepared any more: %v", name, err)
		}
		if !slices.Equal(b.events, []string{"MachineStopped"}) {
			t.Errorf("after %s, told is %q", name, b.events)
		}
	}
}

func TestAMachineThatIsBeingDetachedIsNotStarted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := b.daemon()
	var refused [3]error
	for i, procedure := range []uint32{procState, procSaveImage, procDefine} {
		d.on[procedure] = func() error { refused[i] = b.machine.begin(context.Background(), b.started); return nil }
	}
	if _, err := b.machine.Detach(t.Context(), []byte("theirs")); err != nil {
		t.Fatal(err)
	}
	for i, err := range refused {
		if err == nil || !strings.Contains(err.Error(), "being detached") {
			t.Errorf("begun at step %d: %v", i, err)
		}
	}
	if flash, err := os.ReadFile(b.machine.domain.Attachment.Variables); err != nil || string(flash) != "theirs" {
		t.Errorf("its variables are %q, %v", flash, err)
	}
	d.on, d.saved = nil, true
	if _, err := b.machine.Detach(t.Context(), nil); err == nil {
		t.Error("it was detached from saved memory")
	}
	if err := b.machine.begin(t.Context(), b.started); err != nil {
		t.Errorf("after a detachment that failed, it does not start: %v", err)
	}
}

func TestADefinitionThatLibvirtMayTakeYetLeavesTheMachineAttached(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		define    func(stop func()) error
		unsettled bool
	}{
		"refused":            {func(func()) error { return rpc.Error{Code: 1, Message: "no"} }, false},
		"no answer in time":  {func(stop func()) error { stop(); return nil }, true},
		"the connection end": {func(func()) error { return io.ErrUnexpectedEOF }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			d := b.daemon()
			d.definition, d.state = written(t, b.machine.original), rpc.DomainRunning
			if err := os.MkdirAll(b.host.Kept, 0o700); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			given := make(chan struct{})
			d.on[procDefine] = func() error {
				return row.define(func() { stop(); <-given })
			}
			err := b.machine.Attach(ctx, &smm.Found{Flash: []byte("then")})
			close(given)
			if err == nil || errors.Is(err, smm.ErrUnsettled) != row.unsettled || !errors.As(err, new(*generated.UnavailableFault)) {
				t.Errorf("it gives %v", err)
			}
			if _, err := os.Stat(b.machine.kept()); (err == nil) != row.unsettled {
				t.Errorf("the flash as it was then: %v", err)
			}
		})
	}
}

// counted is a context that counts what it would have to do when it ends.
type counted struct {
	context.Context
	done chan struct{}
	n    atomic.Int32
}

func (c *counted) Done() <-chan struct{} { return c.done }

func (c *counted) AfterFunc(func()) func() bool {
	c.n.Add(1)
	return sync.OnceValue(func() bool { c.n.Add(-1); return true })
}

func TestAConnectionThatHasEndedLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.daemon()
	ctx := &counted{Context: t.Context(), done: make(chan struct{})}
	l, err := b.host.connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := ctx.n.Load(); n != 1 {
		t.Errorf("what wants the connection has %d things to do at its end", n)
	}
	l.conn.Close()
	b.host.deliver(l)
	if n := ctx.n.Load(); n != 0 {
		t.Errorf("it leaves %d", n)
	}
}

func TestTheHookIsAnsweredAfterBadTimes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.host.hook.SetDeadline(time.Unix(1, 0)); err != nil { // so that nobody can be let in
		t.Fatal(err)
	}
	select {
	case <-b.log: // that nobody could be
	case <-time.After(10 * time.Second):
		t.Fatal("it does not say so")
	}
	if err := b.host.hook.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := b.hook(b.started, "prepare", "begin"); err != nil {
		t.Errorf("it is not answered any more: %v", err)
	}
}

func TestTheHookAndTheMachinesThatNeedItAreFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hooks := filepath.Join(dir, "hooks")
	if err := InspectHook(hooks, "/usr/bin/biosv"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without one: %v", err)
	}
	path, err := InstallHook(hooks, "/usr/bin/biosv")
	if err != nil {
		t.Fatal(err)
	}
	if err := InspectHook(hooks, "/usr/bin/biosv"); err != nil {
		t.Error(err)
	}
	if err := InspectHook(hooks, "/opt/biosv"); err == nil || !strings.Contains(err.Error(), "does not run /opt/biosv") {
		t.Errorf("of another program: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := InspectHook(hooks, "/usr/bin/biosv"); err == nil || !strings.Contains(err.Error(), "cannot be run") {
		t.Errorf("that is no program: %v", err)
	}
	attached := parsed(t, read(t, "virtio.xml"))
	attached.attach(theirs)
	for name, content := range map[string]string{"web1.xml": written(t, attached), "other.xml": read(t, "bare.xml"), "damaged.xml": "<domain"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if names := AttachedMachines(dir); !slices.Equal(names, []string{text(attached.child("name"))}) {
		t.Errorf("attached are %q", names)
	}
}
