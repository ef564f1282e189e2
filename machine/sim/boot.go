package sim

import (
	"fmt"
	"slices"
	"strings"

	"biosv/generated"
	"biosv/smm"
)

// bootOption is something that the firmware can try to start from.
type bootOption struct {
	reference, label string
	there            func(setup) bool // the firmware has it
	starts           bool             // something is there that starts
	description      func(*Machine, setup) string
}

// bootOptions are all, by their references. In the drive for removable media is no medium.
var bootOptions = []bootOption{
	{"Boot0000", "NVMe drive", always, true, fixed("UEFI NVMe Drive 1")},
	{"Boot0001", "Network adapter 1", networkBoot, true, func(m *Machine, s setup) string { return m.networkOption(s, 0) }},
	{"Boot0002", "Network adapter 2", networkBoot, true, func(m *Machine, s setup) string { return m.networkOption(s, 1) }},
	{"Boot0003", "USB storage", func(s setup) bool { return s.text("UsbPorts") != "Disabled" }, false, fixed("UEFI USB Storage")},
	{"Boot0004", "UEFI shell", always, true, fixed("UEFI Shell")},
}

func always(setup) bool { return true }

func networkBoot(s setup) bool { return s.text("NetworkBoot") != "Disabled" }

func fixed(description string) func(*Machine, setup) string {
	return func(*Machine, setup) string { return description }
}

func (m *Machine) networkOption(s setup, adapter int) string {
	return fmt.Sprintf("UEFI %s (MAC:%s)", s.text("NetworkBoot"), strings.ToUpper(strings.ReplaceAll(m.mac(adapter), ":", "")))
}

// tried gives the options that the firmware tries, in order.
func tried(s setup) (options []bootOption) {
	for _, reference := range s["BootOrder"] {
		i := slices.IndexFunc(bootOptions, func(o bootOption) bool { return o.reference == reference })
		if i >= 0 && bootOptions[i].there(s) {
			options = append(options, bootOptions[i])
		}
	}
	return options
}

// bootedFrom gives the option that the firmware starts from; there may be none.
func bootedFrom(s setup) (bootOption, bool) {
	options := tried(s)
	if i := slices.IndexFunc(options, func(o bootOption) bool { return o.starts }); i >= 0 {
		return options[i], true
	}
	return bootOption{}, false
}

// bootReport is what the firmware writes to the event log when it starts, as much as BootReport asks for.
func (m *Machine) bootReport(s setup) (events []smm.Event) {
	level := s.text("BootReport")
	from, ok := bootedFrom(s)
	if !ok {
		events = append(events, smm.Event{
			Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.NothingToStart",
			Message: "The machine started, and found nothing in its boot order that it could start from: it waits in the firmware.",
		})
	}
	if ok && level != "Problems" {
		events = append(events, smm.Event{
			Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.MachineStarted",
			Message: fmt.Sprintf("The machine started from %s, %s.", from.reference, from.description(m, s)),
		})
	}
	if level == "Detailed" {
		p := processor(s, 0)
		events = append(events, smm.Event{
			Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.HardwareFound",
			Message: fmt.Sprintf("The firmware found %d processors with %d cores and %d threads each, and %d MiB of usable memory.",
				processors, p.EnabledCoreCount, p.ThreadCount, usableMemory(s)),
		})
	}
	return events
}
