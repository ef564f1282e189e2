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

// feature defines a feature of the processors, which are told by the names that Linux gives them.
func feature(name, display, help string) *generated.AttributeDefinition {
	return &generated.AttributeDefinition{Name: name, MenuGroup: processorMenu, DisplayName: display, AttributeKind: &boolean, DefaultValue: one("true"), ResetRequired: true, HelpText: help}
}

// choice defines one of some values, of pairs: as it is written, and as people read it. The first is the default.
func choice(name, menu, display, help string, pairs ...string) *generated.AttributeDefinition {
	d := &generated.AttributeDefinition{Name: name, MenuGroup: menu, DisplayName: display, AttributeKind: &enumeration, DefaultValue: one(pairs[0]), ResetRequired: true, HelpText: help}
	d.PossibleValue = machine.PossibleValues(pairs...)
	return d
}

// fact defines a number that cannot be changed.
func fact(name, menu, display string, value uint32, help string) *generated.AttributeDefinition {
	return &generated.AttributeDefinition{
		Name: name, MenuGroup: menu, DisplayName: display, AttributeKind: &integer, LowerBound: new(generated.IntegerBound(0)), UpperBound: new(generated.IntegerBound(1 << 32)),
		DefaultValue: one(strconv.FormatUint(uint64(value), 10)), ReadOnly: true, Immutable: true, HelpText: help,
	}
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

const mostBootTimeout = 60 // s

// registry is the table of the attributes. Each is in the command line of the next start ([Machine.arguments]), and so
// in what the guest sees.
func registry(d smm.Domain) generated.GetAttributeRegistryReply {
	v := d.VirtualMachine
	return generated.GetAttributeRegistryReply{RegistryId: machine.RegistryID("Qemu", d.UUID), Definition: []*generated.AttributeDefinition{
		label("SystemManufacturer", "Manufacturer", "QEMU", "Who made the machine, as its operating system reads it (SMBIOS type 1)."),
		label("SystemProductName", "Product name", "Standard PC (Q35 + ICH9, 2009)", "What the machine is called, as its operating system reads it (SMBIOS type 1)."),
		label("SystemFamily", "Family", "", "To which family the machine belongs, as its operating system reads it (SMBIOS type 1)."),
		label("SkuNumber", "SKU number", "", "The number to order the machine by, as its operating system reads it (SMBIOS type 1)."),
		label("SerialNumber", "Serial number", "", "The machine's serial number, as its operating system reads it (SMBIOS type 1)."),
		label("AssetTag", "Asset tag", "", "The tag under which you keep this machine in your books, as its operating system reads it (SMBIOS type 3)."),
		{
			Name: "SystemUuid", MenuGroup: identification, DisplayName: "System UUID", AttributeKind: &text, MaxLength: new(generated.LengthBound(36)), DefaultValue: one(d.UUID), ReadOnly: true, Immutable: true,
			HelpText: "The UUID by which operating systems and tools know this machine (SMBIOS type 1).",
		},
		fact("ProcessorCount", processorMenu, "Processors", uint32(*v.ProcessorCount), "How many processors the machine has."),
		feature("ProcessorAes", "AES instructions", "Whether operating systems may encrypt with instructions of the processors (the feature aes)."),
		feature("ProcessorRandom", "Random numbers", "Whether the processors give random numbers (the features rdrand and rdseed, as far as there are any)."),
		fact("TotalMemoryMiB", memoryMenu, "Memory in MiB", uint32(*v.MemoryMiB), "How much memory the machine has."),
		{
			Name: "BootTimeoutSeconds", MenuGroup: bootMenu, DisplayName: "Boot timeout in seconds", AttributeKind: &integer, LowerBound: new(generated.IntegerBound(0)), UpperBound: new(generated.IntegerBound(mostBootTimeout)),
			DefaultValue: one("0"), ResetRequired: true, HelpText: "How long the firmware waits for a key before it starts an operating system; it sets the variable Timeout by it.",
		},
		powerRestore(),
		choice("PanicAction", deviceMenu, "After a panic", "What becomes of the machine when its operating system panics; that needs a driver for the device pvpanic.",
			"StandStill", "It stands still", "PowerOff", "It is turned off", "Restart", "It starts again"),
		choice("Watchdog", deviceMenu, "Watchdog", "Whether the machine has a watchdog, an Intel 6300ESB, which acts when the operating system has started it and is silent.",
			"None", "None", "Restart", "It restarts the machine", "PowerOff", "It turns the machine off"),
	}}
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
	if s["ProcessorAes"] == "false" {
		model += ",aes=off"
	}
	if s["ProcessorRandom"] == "false" {
		model += ",rdrand=off,rdseed=off"
	}
	return model
}
