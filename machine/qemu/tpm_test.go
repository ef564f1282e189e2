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
