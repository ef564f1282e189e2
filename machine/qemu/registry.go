package qemu

import (
	"fmt"
	"strconv"
	"strings"

	"biosv/generated"
	"biosv/machine"
	"biosv/smm"
)

// The headings of the attributes.
const (
	identification = "Identification"
	processorMenu  = "Processor"
	memoryMenu     = "Memory"
	bootMenu       = "Boot"
	deviceMenu     = "Devices"
	powerMenu      = "Power"
	securityMenu   = "Security"
)

var (
	enumeration = generated.AttributeKindEnumeration
	integer     = generated.AttributeKindInteger
	text        = generated.AttributeKindString
	boolean     = generated.AttributeKindBoolean
)

func one(v string) []string { return []string{v} }

// label defines a text of SMBIOS, which is of printable ASCII.
func label(name, display, value, help string) *generated.AttributeDefinition {
	return &generated.AttributeDefinition{
		Name: name, MenuGroup: identification, DisplayName: display, AttributeKind: &text, MaxLength: new(generated.LengthBound(63)), ValueExpression: "[ -~]*",
		DefaultValue: one(value), ResetRequired: true, HelpText: help,
	}
}

// toggle defines something that is there or not.
func toggle(name, menu, display string, on bool, help string) *generated.AttributeDefinition {
	return &generated.AttributeDefinition{Name: name, MenuGroup: menu, DisplayName: display, AttributeKind: &boolean, DefaultValue: one(strconv.FormatBool(on)), ResetRequired: true, HelpText: help}
}

// number defines a whole number.
func number(name, menu, display string, least, most, value int64, help string) *generated.AttributeDefinition {
	return &generated.AttributeDefinition{
		Name: name, MenuGroup: menu, DisplayName: display, AttributeKind: &integer, LowerBound: new(generated.IntegerBound(least)), UpperBound: new(generated.IntegerBound(most)),
		DefaultValue: one(strconv.FormatInt(value, 10)), ResetRequired: true, HelpText: help,
	}
}

// choice defines one of some values, of pairs: as it is written, and as people read it. The first is the default.
func choice(name, menu, display, help string, pairs ...string) *generated.AttributeDefinition {
	d := &generated.AttributeDefinition{Name: name, MenuGroup: menu, DisplayName: display, AttributeKind: &enumeration, DefaultValue: one(pairs[0]), ResetRequired: true, HelpText: help}
	d.PossibleValue = machine.PossibleValues(pairs...)
	return d
}

// powerRestore defines what becomes of the machine when the service starts, after the host lost its power too. That it
// goes on when it still runs is no question.
func powerRestore() *generated.AttributeDefinition {
	d := choice("PowerRestorePolicy", powerMenu, "When power returns", "Whether the machine is started when the service is, and the machine does not run: as after the host was started anew.",
		lastState, "As it was", "AlwaysOn", "It is started", "AlwaysOff", "It stays off")
	d.ResetRequired = false
	return d
}

// lastState is the value of PowerRestorePolicy that asks whether the machine ran when it was last seen. Others are obeyed
// by whoever reads the attribute.
const lastState = "LastState"

// networkBoot defines what the firmware starts from over the network. It has PXE switched off by itself; that it tries
// HTTP it cannot be told, so without any it is given a card that it has no driver for.
func networkBoot() *generated.AttributeDefinition {
	return choice("NetworkBoot", bootMenu, "Boot from the network", "What the firmware tries to start from over the network. Where that is nothing, the network card is an Intel 82574L, which the firmware has no driver for, in place of one of virtio.",
		"All", "PXE and HTTP", "HTTP", "HTTP alone", noNetworkBoot, "Nothing")
}

const noNetworkBoot = "Disabled"

// secureBoot defines what is read and changed with the variables, and is told here too.
func secureBoot() *generated.AttributeDefinition {
	d := toggle("SecureBoot", securityMenu, "Secure Boot", false, "Whether the firmware has checked what it started since the last start. SetSecureBoot changes it, from the next start on.")
	d.ResetRequired, d.ReadOnly = false, true
	return d
}

// tpmFact tells whether the machine was made with a TPM.
func tpmFact(there bool) *generated.AttributeDefinition {
	d := toggle("VirtualTpm", securityMenu, "TPM", there, "Whether the machine has a TPM 2.0 of its own.")
	d.ResetRequired, d.ReadOnly, d.Immutable = false, true, true
	return d
}

// registry is the table of the attributes. Each that can be written is in the command line of the next start
// ([Machine.arguments]), and so in what the guest sees.
func registry(d smm.Domain) generated.GetAttributeRegistryReply {
	v := d.VirtualMachine
	list := []*generated.AttributeDefinition{
		label("SystemManufacturer", "Manufacturer", "QEMU", "Who made the machine, as its operating system reads it (SMBIOS type 1)."),
		label("SystemProductName", "Product name", "Standard PC (Q35 + ICH9, 2009)", "What the machine is called, as its operating system reads it (SMBIOS type 1)."),
		label("SystemFamily", "Family", "", "To which family the machine belongs, as its operating system reads it (SMBIOS type 1)."),
		label("SkuNumber", "SKU number", "", "The number to order the machine by, as its operating system reads it (SMBIOS type 1)."),
		label("SerialNumber", "Serial number", "", "The machine's serial number, as its operating system reads it (SMBIOS type 1)."),
		label("AssetTag", "Asset tag", "", "The tag under which you keep this machine in your books, as its operating system reads it (SMBIOS type 3)."),
		machine.SystemUUID(identification, d.UUID, "The UUID by which operating systems and tools know this machine (SMBIOS type 1)."),
		machine.Fact("ProcessorCount", processorMenu, "Processors", uint32(*v.ProcessorCount), "How many processors the machine has."),
		toggle("ProcessorVirtualization", processorMenu, "Virtualization", true, "Whether operating systems may run virtual machines with the help of the processors (the feature vmx or svm, where the host has it)."),
		toggle("ProcessorAes", processorMenu, "AES instructions", true, "Whether operating systems may encrypt with instructions of the processors (the feature aes)."),
		toggle("ProcessorRandom", processorMenu, "Random numbers", true, "Whether the processors give random numbers (the features rdrand and rdseed, as far as there are any)."),
		machine.Fact("TotalMemoryMiB", memoryMenu, "Memory in MiB", uint32(*v.MemoryMiB), "How much memory the machine has."),
		toggle("BootMenu", bootMenu, "Boot menu", false, "Whether the firmware waits for a key that leads to its menu, before it starts an operating system."),
		number("BootMenuSeconds", bootMenu, "Wait for the boot menu in seconds", 1, 60, 5, "How long the firmware waits for the key; it sets the variable Timeout by it, and by 0 where there is no menu."),
		secureBoot(),
		tpmFact(v.VirtualTpm),
		toggle("SerialConsole", deviceMenu, "Serial console", true, "Whether the machine has a first serial port, on which firmware and operating system show themselves."),
		number("RtcOffsetMinutes", deviceMenu, "Clock ahead of UTC in minutes", -720, 840, 0, "By how much the machine's clock is ahead of UTC when it starts: some operating systems expect local time in it."),
		powerRestore(),
		choice("PanicAction", deviceMenu, "After a panic", "What becomes of the machine when its operating system panics; that needs a driver for the device pvpanic.",
			"StandStill", "It stands still", "PowerOff", "It is turned off", "Restart", "It starts again"),
		toggle("Watchdog", deviceMenu, "Watchdog", false, "Whether the machine has a watchdog, an Intel 6300ESB, which acts when the operating system has started it and is silent."),
		choice("WatchdogAction", deviceMenu, "What the watchdog does", "What becomes of the machine when the watchdog acts.",
			"Restart", "It starts again", "PowerOff", "It is turned off"),
	}
	if *v.NetworkMode != generated.NetworkModeNone {
		list = append(list, networkBoot())
	}
	return generated.GetAttributeRegistryReply{RegistryId: machine.RegistryID("Qemu", d.UUID), Definition: list, Dependency: []*generated.AttributeDependency{
		needs("BootMenuSeconds", "BootMenu"), needs("WatchdogAction", "Watchdog"),
	}}
}

// needs says that an attribute cannot be written while a toggle is off: it would do nothing.
func needs(attribute, toggle string) *generated.AttributeDependency {
	return &generated.AttributeDependency{MapFromAttribute: toggle, MapFromValue: "false", MapToAttribute: attribute, DependencyEffect: new(generated.DependencyEffectReadOnly)}
}

// setup are the values of all attributes.
type setup map[string]string

// everything fills in the defaults.
func (m *Machine) everything(settings smm.Settings) setup {
	s := setup{}
	for _, d := range m.registry.Definition {
		value := d.DefaultValue
		if v, ok := settings[d.Name]; ok {
			value = v
		}
		s[d.Name] = strings.Join(value, " ")
	}
	return s
}

// smbios gives the texts of SMBIOS. In an option of QEMU a comma is written as two.
func (s setup) smbios(kind int, fields ...string) string {
	line := fmt.Sprintf("type=%d", kind)
	for i := 0; i+1 < len(fields); i += 2 {
		if v := s[fields[i+1]]; v != "" {
			line += "," + fields[i] + "=" + strings.ReplaceAll(v, ",", ",,")
		}
	}
	return line
}

// cpu gives the processors' model with the features that are switched off.
func (s setup) cpu() string {
	model := "max"
	if s["ProcessorVirtualization"] == "false" {
		model += ",vmx=off,svm=off"
	}
	if s["ProcessorAes"] == "false" {
		model += ",aes=off"
	}
	if s["ProcessorRandom"] == "false" {
		model += ",rdrand=off,rdseed=off"
	}
	return model
}
