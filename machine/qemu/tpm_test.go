package qemu

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"biosv/generated"
	"biosv/machine/firmware"
)

// newTPMBench is a bench whose machine has a TPM, of a swtpm that is real.
func newTPMBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.domain.VirtualMachine.VirtualTpm = true
	if err := b.host.Define(b.domain.VirtualMachine); err != nil {
		t.Fatal(err)
	}
	return b
}

// command gives the TPM a command without a session (TPM 2.0 Library, Part 1, section 18).
func (b *bench) command(code uint32, parameters ...byte) ([]byte, error) {
	b.Helper()
	c := binary.BigEndian.AppendUint16(nil, 0x8001) // TPM_ST_NO_SESSIONS
	c = binary.BigEndian.AppendUint32(c, uint32(10+len(parameters)))
	c = append(binary.BigEndian.AppendUint32(c, code), parameters...)
	said := b.say("tpm " + hex.EncodeToString(c))
	answer, err := hex.DecodeString(said)
	if err != nil {
		return nil, errors.New(said)
	}
	if len(answer) < 10 || binary.BigEndian.Uint32(answer[6:]) != 0 {
		return nil, fmt.Errorf("it answers %x", answer)
	}
	return answer[10:], nil
}

// switchedOn starts the TPM as firmware does, and gives how often it was reset in its life (TPM2_Startup, TPM2_ReadClock).
func (b *bench) switchedOn() uint32 {
	b.Helper()
	if _, err := b.command(0x144, 0, 0); err != nil {
		b.Fatalf("TPM2_Startup: %v", err)
	}
	info, err := b.command(0x181)
	if err != nil || len(info) < 20 {
		b.Fatalf("TPM2_ReadClock: %x, %v", info, err)
	}
	return binary.BigEndian.Uint32(info[16:])
}

func TestATPMIsResetByEachBootAndKeepsItsState(t *testing.T) {
	t.Parallel()
	b := newTPMBench(t)
	b.reset(generated.ResetTypeOn)
	if told := b.told(); !slices.Equal(told, []string{"TpmCreated"}) {
		t.Errorf("the log tells of %q", told)
	}
	resets, first := b.switchedOn(), b.machine.running().tpm.process
	b.end(firmware.GuestReset)
	b.eventually("another boot", func() bool { r := b.machine.running(); return r != nil && r.tpm.process != first })
	if !first.over() {
		t.Error("the TPM of the boot before runs")
	}
	if now := b.switchedOn(); now != resets+1 {
		t.Errorf("it was reset %d times, and now %d times", resets, now)
	}

	process := b.machine.running().tpm.process.pid
	if err := b.machine.Close(); err != nil {
		t.Fatal(err)
	}
	b.open()
	if found := b.machine.running().tpm; found == nil || found.process.pid != process {
		t.Fatalf("the TPM, process %d, was not found again", process)
	}
	if _, err := b.command(0x181); err != nil {
		t.Error(err)
	}

	if err := syscall.Kill(b.machine.running().process.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.eventually("it is off", func() bool { return b.power() == generated.PowerStateOff })
	b.reset(generated.ResetTypeOn) // the TPM of the killed machine has ended by itself, or this would fail
	if now := b.switchedOn(); now != resets+2 {
		t.Errorf("it was reset %d times, and now %d times", resets, now)
	}
	if told := b.told(); slices.Contains(told, "TpmFailed") {
		t.Errorf("the log tells of %q", told)
	}
}

func TestAMachineGoesOnWithoutItsTPM(t *testing.T) {
	t.Parallel()
	b := newTPMBench(t)
	b.reset(generated.ResetTypeOn)
	if err := syscall.Kill(b.machine.running().tpm.process.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.eventually("the log tells of it", func() bool { return slices.Equal(b.told(), []string{"TpmCreated", "TpmFailed"}) })
	if state := b.power(); state != generated.PowerStateOn {
		t.Errorf("it is %s", state)
	}
	b.reset(generated.ResetTypeForceRestart)
	b.switchedOn()
}

func TestATPMWhoseStateIsGoneIsNotMadeAnewSilently(t *testing.T) {
	t.Parallel()
	b := newTPMBench(t)
	b.reset(generated.ResetTypeOn)
	b.reset(generated.ResetTypeForceOff)
	state := filepath.Join(b.host.TPMs, b.domain.UUID, fileState)
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	var unavailable *generated.UnavailableFault
	if err := b.machine.Reset(t.Context(), generated.ResetTypeOn); !errors.As(err, &unavailable) || !strings.Contains(err.Error(), state) {
		t.Errorf("it is answered with %v", err)
	}
	if err := b.machine.Destroy(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(b.host.TPMs); err != nil || len(left) != 0 {
		t.Errorf("of a machine that is no more is left %v, %v", left, err)
	}
}

// The folder of its state is swtpm's own, and whoever breaks out of it has it.
func TestWhatIsNoFileInTheFolderOfATPMIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := newTPMBench(t)
	if os.Geteuid() == 0 {
		b.host.FirstUser, b.host.Users = 2_100_000_100, 16
	}
	b.reset(generated.ResetTypeOn)
	dir := filepath.Join(b.host.TPMs, b.domain.UUID)
	pipe := filepath.Join(dir, filePID)
	if err := errors.Join(os.Remove(pipe), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	if pid, err := readPID(pipe); err == nil {
		t.Errorf("a pipe names the process %d", pid)
	}
	b.reset(generated.ResetTypeForceOff)
	secret := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(string) error{
		"a pipe":              func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a link":              func(path string) error { return os.Symlink(secret, path) },
		"another file's name": func(path string) error { return os.Link(secret, path) },
	} {
		planted := filepath.Join(dir, "planted")
		if err := make(planted); err != nil {
			t.Fatal(err)
		}
		err := giveState(dir, max(os.Geteuid(), b.host.FirstUser))
		var unavailable *generated.UnavailableFault
		if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), planted) {
			t.Errorf("%s in its folder is answered with %v", name, err)
		}
		if err := os.Remove(planted); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(secret); err != nil || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		t.Errorf("the file is another user's: %v, %v", info, err)
	}
	b.reset(generated.ResetTypeOn)
}
