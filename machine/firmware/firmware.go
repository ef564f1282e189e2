// Package firmware is what machines have in common whose UEFI firmware asks BIOS.v for its variables, whoever starts
// their QEMU: the flash of each boot, the door on which the guest is answered, and what becomes of the boot. Begin with
// [Boot].
package firmware

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"biosv/generated"
	"biosv/smm"
)

// Variables keeps the UEFI variables of domains.
type Variables interface {
	// Begin begins a boot, and gives its flash and whether Secure Boot is on in it.
	Begin(ctx context.Context, domain string) (flash []byte, secureBoot bool, err error)
	// TakeOver takes what was changed in a flash before its firmware asked for its variables: rendered is what the flash
	// was, found what it is.
	TakeOver(ctx context.Context, domain string, rendered, found []byte) error
}

// Door answers a guest of a domain on connections of its own socket, until ctx ends; then the listener is closed. Inside
// says that the guest may be in its operating system already.
type Door func(ctx context.Context, domain string, inside bool, l net.Listener, b *Boot) error

// FlashSize is the size in bytes of the flash that is rendered: that of the file for variables beside OVMF's code of 4 MiB.
const FlashSize = 0x84000

// VariableStorage is how many bytes of variables the flash takes whose code is OVMF's of 4 MiB.
const VariableStorage = 0x3ff9c

// Boot is one boot of a machine, which is one process of QEMU, as its guest tells of it.
type Boot struct {
	Domain     string
	Flash      string // path of the file
	Rendered   []byte // what the file was at the start; nil where nothing is taken over from it
	Variables  Variables
	Supervisor smm.Supervisor
	Log        *slog.Logger

	mu       sync.Mutex
	wasReset bool // the guest was heard to ask its firmware for it
}

// Arrived takes over what the firmware wrote to its flash before its thin virtual BIOS came. What cannot be taken over
// does not keep the guest from its variables.
func (b *Boot) Arrived(ctx context.Context) error {
	if b.Rendered == nil {
		return nil
	}
	found, err := ReadFile(b.Flash, FlashSize)
	if err == nil {
		err = b.Variables.TakeOver(ctx, b.Domain, b.Rendered, found)
	}
	if err != nil {
		b.Log.Error("what the firmware wrote to its flash is lost", "error", err)
		if err := b.Supervisor.Report(ctx, smm.Event{
			Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.FirmwareWritesLost",
			Message: "What the firmware wrote to its variables before its thin virtual BIOS came could not be taken over, and is lost. The service's log says why.",
		}); err != nil {
			b.Log.Error("an event of a machine could not be written", "event", "what the firmware wrote is lost", "error", err)
		}
	}
	b.Rendered = nil
	return nil
}

// ExitBootServices writes down that the operating system has taken over. Nothing depends on that it is on disk: the door
// keeps the phase as long as biosv lives, and biosv that is started anew takes every guest for one in its operating system
// ([Boot.Found]). So a disk that is full does not keep the guest from reading.
func (b *Boot) ExitBootServices(ctx context.Context) error {
	if err := b.Supervisor.Enter(ctx, generated.GuestPhaseOperatingSystem, smm.Event{
		Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.OperatingSystemStarted", Message: "The firmware has handed the machine over to its operating system.",
	}); err != nil {
		b.Log.Error("that an operating system was started could not be written", "error", err)
	}
	return nil
}

// Found writes down that the guest counts as one in its operating system, because nobody listened for a while: whether boot
// services have ended meanwhile cannot be known, and so it has the fewer rights.
func (b *Boot) Found(ctx context.Context) {
	if err := b.Supervisor.Enter(ctx, generated.GuestPhaseOperatingSystem, smm.Event{
		Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.GuestPhaseUnknown",
		Message: "The service was away while the firmware ran. The guest counts as one in its operating system until the next start.",
	}); err != nil {
		b.Log.Error("the phase of a guest could not be written", "error", err)
	}
}

// resetTypes are the names of EFI_RESET_TYPE (UEFI 2.10, 8.5.1).
var resetTypes = [...]string{"EfiResetCold", "EfiResetWarm", "EfiResetShutdown", "EfiResetPlatformSpecific"}

// ResetSystem writes down, once in a boot, that the guest asked its firmware for a reset.
func (b *Boot) ResetSystem(ctx context.Context, kind uint32) error {
	b.mu.Lock()
	told := b.wasReset
	b.wasReset = true
	b.mu.Unlock()
	if told {
		return nil
	}
	name := fmt.Sprintf("reset type %d", kind)
	if int(kind) < len(resetTypes) {
		name = resetTypes[kind]
	}
	return b.Supervisor.Report(ctx, smm.Event{
		Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.ResetRequested", Message: "The guest asked its firmware for a reset: " + name + ".",
	})
}
