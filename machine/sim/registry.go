package sim

import (
	"strconv"

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
	powerMenu      = "Power and cooling"
	securityMenu   = "Security"
	simulation     = "Simulation"
)

// Kinds, bounds and effects, as the contract takes them.
var (
	enumeration = generated.AttributeKindEnumeration
	integer     = generated.AttributeKindInteger
	text        = generated.AttributeKindString
	boolean     = generated.AttributeKindBoolean
	orderedList = generated.AttributeKindOrderedList
	password    = generated.AttributeKindPassword
)

func bound(n int64) *generated.IntegerBound  { return new(generated.IntegerBound(n)) }
func length(n uint32) *generated.LengthBound { return new(generated.LengthBound(n)) }

func one(v string) []string { return []string{v} }

// registry is the table of the attributes. The facts in it are those of one machine, so they are its defaults.
func registry(d smm.Domain) generated.GetAttributeRegistryReply {
	var boot, order []string
	for _, o := range bootOptions {
		boot = append(boot, o.reference, o.label)
		order = append(order, o.reference)
	}
	return generated.GetAttributeRegistryReply{RegistryId: machine.RegistryID("Simulated", d.UUID), Dependency: dependencies(), Definition: []*generated.AttributeDefinition{
		{
			Name: "AssetTag", MenuGroup: identification, DisplayName: "Asset tag", AttributeKind: &text, MaxLength: length(63), DefaultValue: one(""),
			HelpText: "The tag under which you keep this machine in your books; the inventory shows it.",
		},
		{
			Name: "Location", MenuGroup: identification, DisplayName: "Location", AttributeKind: &text, MaxLength: length(63), DefaultValue: one(""),
			ValueExpression: `([A-Za-z0-9][A-Za-z0-9 ,.:/_-]*)?`,
			HelpText:        "Where the machine stands, such as Hall 2/Rack 14/U 7; the inventory shows it.",
		},
		machine.SystemUUID(identification, d.UUID, "The UUID by which operating systems and tools know this machine."),
		{
			Name: "SerialNumber", MenuGroup: identification, DisplayName: "Serial number", AttributeKind: &text, MaxLength: length(63), DefaultValue: one(serialNumber(d.Seed)), ReadOnly: true, Immutable: true,
			HelpText: "The number that the maker gave to this machine.",
		},
		{
			Name: "FirmwareVersion", MenuGroup: identification, DisplayName: "Firmware version", AttributeKind: &text, MaxLength: length(63), DefaultValue: one(firmwareVersion), ReadOnly: true, Immutable: true,
			HelpText: "The version of the firmware that starts this machine.",
		},
		{
			Name: "ProcessorVirtualization", MenuGroup: processorMenu, DisplayName: "Virtualization", AttributeKind: &enumeration, ResetRequired: true,
			PossibleValue: machine.PossibleValues("Enabled", "Enabled", "Disabled", "Disabled"), DefaultValue: one("Enabled"),
			HelpText: "Whether operating systems may run virtual machines with the help of the processors (the feature vmx).",
		},
		{
			Name: "ProcessorAes", MenuGroup: processorMenu, DisplayName: "AES instructions", AttributeKind: &boolean, ResetRequired: true, DefaultValue: one("true"),
			HelpText: "Whether operating systems may encrypt with instructions of the processors (the feature aes).",
		},
		{
			Name: "SimultaneousMultithreading", MenuGroup: processorMenu, DisplayName: "Simultaneous multithreading", AttributeKind: &boolean, ResetRequired: true, DefaultValue: one("true"),
			HelpText: "Whether each core runs two threads and shows as two logical processors.",
		},
		{
			Name: "EnabledCoresPerProcessor", MenuGroup: processorMenu, DisplayName: "Enabled cores per processor", AttributeKind: &integer, ResetRequired: true,
			LowerBound: bound(2), UpperBound: bound(cores), ScalarIncrement: bound(2), DefaultValue: one(strconv.Itoa(cores)),
			HelpText: "How many cores of each processor operating systems can use; fewer can save licences and power.",
		},
		{
			Name: "MemoryMode", MenuGroup: memoryMenu, DisplayName: "Memory mode", AttributeKind: &enumeration, ResetRequired: true,
			PossibleValue: machine.PossibleValues("Independent", "All memory is used", "Mirrored", "Half of it is a copy of the other half"), DefaultValue: one("Independent"),
			HelpText: "Whether all memory can be used, or half of it guards the other half against the failure of a module.",
		},
		{
			Name: "MemorySpeed", MenuGroup: memoryMenu, DisplayName: "Memory speed", AttributeKind: &enumeration, ResetRequired: true,
			PossibleValue: machine.PossibleValues("Automatic", "As fast as the mode allows", "4800", "4800 MT/s", "4400", "4400 MT/s", "4000", "4000 MT/s"), DefaultValue: one("Automatic"),
			HelpText: "How fast the memory runs; mirrored memory runs at 4400 MT/s at most.",
		},
		{
			Name: "TotalMemoryMiB", MenuGroup: memoryMenu, DisplayName: "Installed memory in MiB", AttributeKind: &integer, DefaultValue: one(strconv.Itoa(memoryMiB)), ReadOnly: true, Immutable: true,
			LowerBound: bound(memoryMiB), UpperBound: bound(memoryMiB),
			HelpText: "How much memory the modules in the machine have together.",
		},
		{
			Name: "BootOrder", MenuGroup: bootMenu, DisplayName: "Boot order", AttributeKind: &orderedList, ResetRequired: true,
			PossibleValue: machine.PossibleValues(boot...), DefaultValue: order,
			HelpText: "What the firmware tries to start from, the first that works; options that are not in the list are not tried.",
		},
		{
			Name: "NetworkBoot", MenuGroup: bootMenu, DisplayName: "Boot from the network", AttributeKind: &enumeration, ResetRequired: true,
			PossibleValue: machine.PossibleValues("PXEv4", "PXE over IPv4", "PXEv6", "PXE over IPv6", "HTTP", "HTTP", "Disabled", "Disabled"), DefaultValue: one("PXEv4"),
			HelpText: "How the firmware can start from the network adapters, if at all.",
		},
		{
			Name: "BootDelaySeconds", MenuGroup: bootMenu, DisplayName: "Boot delay in seconds", AttributeKind: &integer, ResetRequired: true,
			LowerBound: bound(0), UpperBound: bound(60), ScalarIncrement: bound(5), DefaultValue: one("0"),
			HelpText: "How long the firmware waits before it starts the operating system, so that somebody can step in or slow storage gets ready.",
		},
		{
			Name: "BootReport", MenuGroup: bootMenu, DisplayName: "Boot report", AttributeKind: &enumeration, ResetRequired: true,
			PossibleValue: machine.PossibleValues("Problems", "Problems only", "Summary", "What it started from", "Detailed", "Also what it found"), DefaultValue: one("Summary"),
			HelpText: "How much the firmware writes to the event log at each start.",
		},
		{
			Name: "StorageMode", MenuGroup: deviceMenu, DisplayName: "Storage controller mode", AttributeKind: &enumeration, ResetRequired: true,
			PossibleValue: machine.PossibleValues("NVMe", "Single drives", "RAID", "Drives as an array"), DefaultValue: one("NVMe"),
			HelpText: "Whether operating systems see single drives or an array; change it before an operating system is installed.",
		},
		{
			Name: "UsbPorts", MenuGroup: deviceMenu, DisplayName: "USB ports", AttributeKind: &enumeration, ResetRequired: true,
			PossibleValue: machine.PossibleValues("Enabled", "All ports", "RearOnly", "Rear ports only", "Disabled", "No ports"), DefaultValue: one("Enabled"),
			HelpText: "Which USB ports work; without any, nothing can be started from USB storage either.",
		},
		{
			Name: "SecurityDevice", MenuGroup: deviceMenu, DisplayName: "Security device", AttributeKind: &boolean, ResetRequired: true, DefaultValue: one("true"),
			HelpText: "Whether operating systems see the TPM.",
		},
		{
			Name: "SerialConsole", MenuGroup: deviceMenu, DisplayName: "Serial console", AttributeKind: &boolean, ResetRequired: true, DefaultValue: one("true"),
			HelpText: "Whether the firmware shows its screens on the first serial port too.",
		},
		{
			Name: "SerialConsoleBaud", MenuGroup: deviceMenu, DisplayName: "Serial console speed", AttributeKind: &enumeration, ResetRequired: true,
			PossibleValue: machine.PossibleValues("9600", "9600 baud", "57600", "57600 baud", "115200", "115200 baud"), DefaultValue: one("115200"),
			HelpText: "How fast the serial console is; the terminal at its other end must be set to the same speed.",
		},
		{
			Name: "PowerRestorePolicy", MenuGroup: powerMenu, DisplayName: "When power comes back", AttributeKind: &enumeration,
			PossibleValue: machine.PossibleValues("AlwaysOff", "Stay off", "AlwaysOn", "Start", "LastState", "As it was before"), DefaultValue: one("LastState"),
			HelpText: "What the machine does when its power comes back; for a simulated machine that is when biosv starts.",
		},
		{
			Name: "ThermalPolicy", MenuGroup: powerMenu, DisplayName: "Thermal policy", AttributeKind: &enumeration,
			PossibleValue: machine.PossibleValues(
				string(generated.ThermalPolicyQuiet), "Quiet: slow fans, warm parts", string(generated.ThermalPolicyBalanced), "Balanced",
				string(generated.ThermalPolicyPerformance), "Performance: fast fans, cool parts", string(generated.ThermalPolicyCustom), "Custom: by the minimum fan speed",
			),
			DefaultValue: one(string(generated.ThermalPolicyBalanced)),
			HelpText:     "What the fans are steered for: little noise, cool parts, or the speed that you set.",
		},
		{
			Name: "FanMinimumPercent", MenuGroup: powerMenu, DisplayName: "Minimum fan speed in percent", AttributeKind: &integer,
			LowerBound: bound(20), UpperBound: bound(100), ScalarIncrement: bound(5), DefaultValue: one("40"),
			HelpText: "The least speed of the fans under the thermal policy Custom, in percent of their greatest.",
		},
		{
			Name: "ProcessorPowerLimitWatts", MenuGroup: powerMenu, DisplayName: "Power limit per processor in watts", AttributeKind: &integer,
			LowerBound: bound(idleWatts), UpperBound: bound(fullWatts), ScalarIncrement: bound(5), DefaultValue: one(strconv.Itoa(fullWatts)),
			HelpText: "What each processor may take at most; a lower limit keeps it cooler and slower.",
		},
		{
			Name: "AdministratorSecret", MenuGroup: securityMenu, DisplayName: "Administrator secret", AttributeKind: &password, MinLength: length(8), MaxLength: length(64),
			HelpText: "Once it is set, settings can be changed only by who knows it; an empty one takes it away.",
		},
		{
			Name: "SimulatedLoad", MenuGroup: simulation, DisplayName: "Simulated load", AttributeKind: &enumeration, Hidden: true,
			PossibleValue: machine.PossibleValues("Varying", "As the seed and the time have it", "Idle", "None", "Half", "Half", "Full", "Full"), DefaultValue: one("Varying"),
			HelpText: "What the simulated processors have to do; with Full and slow fans, thresholds are reached.",
		},
	}}
}

// dependencies says what holds for one attribute while another has a value. With the default settings, that is
// only that FanMinimumPercent waits for the policy Custom.
func dependencies() []*generated.AttributeDependency {
	readOnly, hidden, limited := generated.DependencyEffectReadOnly, generated.DependencyEffectHidden, generated.DependencyEffectLimited
	list := []*generated.AttributeDependency{
		{MapFromAttribute: "MemoryMode", MapFromValue: "Mirrored", MapToAttribute: "MemorySpeed", DependencyEffect: &limited, LimitedValue: []string{"Automatic", "4400", "4000"}},
		{MapFromAttribute: "SerialConsole", MapFromValue: "false", MapToAttribute: "SerialConsoleBaud", DependencyEffect: &hidden},
	}
	for _, p := range []generated.ThermalPolicy{generated.ThermalPolicyQuiet, generated.ThermalPolicyBalanced, generated.ThermalPolicyPerformance} {
		list = append(list, &generated.AttributeDependency{MapFromAttribute: "ThermalPolicy", MapFromValue: string(p), MapToAttribute: "FanMinimumPercent", DependencyEffect: &readOnly})
	}
	return list
}
