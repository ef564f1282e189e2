package firmware

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/digitalocean/go-qemu/qmp"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
)

// EventCommands are what a second monitor of QEMU reads from a file, so that it writes all events to another, also while
// biosv is away.
const EventCommands = `{"execute":"qmp_capabilities"}` + "\n"

// End is how a boot ended.
type End string

// The reasons of QEMU's event SHUTDOWN (QMP reference, ShutdownCause) that are told apart here, and the actions of its
// event WATCHDOG that end it.
const (
	Killed        End = "" // it came to no such event
	GuestReset    End = "guest-reset"
	GuestShutdown End = "guest-shutdown"
	GuestPanic    End = "guest-panic"
	FirmwareReset End = "subsystem-reset"
	MonitorReset  End = "host-qmp-system-reset" // whoever speaks to QEMU's monitor asked for it

	WatchdogReset End = "watchdog-reset"
	WatchdogOff   End = "watchdog-poweroff"
)

// LastEnd reads how a boot ended from what its second monitor wrote. The first reason counts: whoever holds QEMU's other
// monitor may end the process of a guest that has ended.
func LastEnd(path string) (end End, err error) {
	return end, events(path, func(e qmp.Event) (found bool) {
		switch e.Event {
		case "SHUTDOWN":
			text, _ := e.Data["reason"].(string)
			end, found = End(text), true
		case "WATCHDOG": // a SHUTDOWN that follows is its doing, and after a poweroff none does
			action, _ := e.Data["action"].(string)
			if w := End("watchdog-" + action); w == WatchdogReset || w == WatchdogOff {
				end, found = w, true
			}
		}
		return found
	})
}

// StandsStill says whether an event is that of a guest that panicked, and whose machine stands still since. Other
// panics end it.
func StandsStill(e qmp.Event) bool { return e.Event == "GUEST_PANICKED" && e.Data["action"] == "pause" }

// StoodStill says whether there is such an event in what the second monitor of a boot wrote.
func StoodStill(path string) (found bool, err error) {
	return found, events(path, func(e qmp.Event) bool {
		found = StandsStill(e)
		return found
	})
}

// Resumed says whether the processors ran in a boot whose second monitor wrote a file: where QEMU was started with them
// stopped. That is among the first events.
func Resumed(path string) (bool, error) {
	text, err := read(path, mostEvents, false)
	return bytes.Contains(text, []byte(`"RESUME"`)), err
}

// events reads the end of what a second monitor wrote, until one is found. A guest cannot push one that ends it out of that
// end: it is among the last.
func events(path string, found func(qmp.Event) bool) error {
	text, err := ReadEnd(path, mostEvents)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) { // the first may not be whole
		var e qmp.Event
		if json.Unmarshal(line, &e) == nil && found(e) {
			break
		}
	}
	return nil
}

// StartFailed is what the event log says of a machine that was to start again and could not.
func StartFailed(err error, domain string) smm.Event {
	return smm.Event{
		Severity: generated.EventSeverityCritical, MessageID: "BiosV.1.0.StartFailed",
		Message: fmt.Sprintf("The machine was to start again and stays off: %v", fault.Of(err, domain)),
	}
}

// Reset says whether the machine is to start again after such an end: it was a reset.
func (e End) Reset() bool {
	return e == GuestReset || e == FirmwareReset || e == MonitorReset || e == WatchdogReset
}

// Event is what the event log says of such an end.
func (e End) Event() smm.Event {
	if known, ok := ends[e]; ok {
		return known
	}
	return smm.Event{Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.MachineStopped", Message: fmt.Sprintf("The machine was ended from outside: QEMU says %s.", e)}
}

var ends = map[End]smm.Event{
	GuestReset:    {Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.MachineReset", Message: "The machine was reset from inside, and starts again."},
	FirmwareReset: {Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.MachineReset", Message: "The machine was reset from inside, and starts again."},
	MonitorReset:  {Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.MachineReset", Message: "The machine was reset by its monitor, and starts again."},
	GuestShutdown: {Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.MachineOff", Message: "The operating system turned the machine off."},
	GuestPanic:    {Severity: generated.EventSeverityCritical, MessageID: "BiosV.1.0.OperatingSystemPanicked", Message: "The operating system panicked, and the machine lost its power."},
	WatchdogReset: {Severity: generated.EventSeverityCritical, MessageID: "BiosV.1.0.WatchdogFired", Message: "The operating system fell silent, and its watchdog restarts the machine."},
	WatchdogOff:   {Severity: generated.EventSeverityCritical, MessageID: "BiosV.1.0.WatchdogFired", Message: "The operating system fell silent, and its watchdog turned the machine off."},
	Killed:        {Severity: generated.EventSeverityCritical, MessageID: "BiosV.1.0.MachineKilled", Message: "The machine lost its power: QEMU ended without having been asked to."},
}
