package sim

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"biosv/generated"
	"biosv/smm"
)

func inventoryOf(t *testing.T, m smm.Machine) *generated.SystemInventory {
	t.Helper()
	i, err := m.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func bootOrderOf(i *generated.SystemInventory) (references []string) {
	for _, o := range i.BootOption {
		references = append(references, o.Reference)
	}
	return references
}

func TestInventoryIsOfAServerAndSaysThatItIsSimulated(t *testing.T) {
	t.Parallel()
	m, _, _ := opened(t, nil)
	i := inventoryOf(t, m)
	if i.HostingMode != "Simulated" || i.SystemUuid != demo.UUID || i.SerialNumber != "SIM2A17C0DE" {
		t.Errorf("%s, %s, %s", i.HostingMode, i.SystemUuid, i.SerialNumber)
	}
	if i.Manufacturer == "" || i.Model == "" || i.Firmware.Vendor == "" || i.Firmware.FirmwareVersion == "" {
		t.Errorf("the maker, the model or the firmware is absent: %+v", i)
	}
	if _, err := time.Parse("01/02/2006", i.Firmware.ReleaseDate); err != nil {
		t.Errorf("the firmware's date is not as SMBIOS writes it: %v", err)
	}
	if len(i.Processor) != 2 || len(i.Memory) != 4 || len(i.Adapter) != 2 || len(i.Device) != 4 || len(i.BootOption) != len(bootOptions) {
		t.Errorf("%d processors, %d modules, %d adapters, %d devices, %d boot options", len(i.Processor), len(i.Memory), len(i.Adapter), len(i.Device), len(i.BootOption))
	}
	if len(i.Variable) != 0 {
		t.Error("it shows variables, and it has none")
	}
}

func TestAddressesAreLocallyAdministeredAndOfTheSeed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, seed := range []uint32{0, 1, 256, demo.Seed, 1<<32 - 1} {
		d := demo
		d.Seed = seed
		m := open(d, nil, &supervised{}, newClock())
		for _, a := range inventoryOf(t, m).Adapter {
			mac, err := net.ParseMAC(a.MacAddress)
			if err != nil || mac[0]&2 == 0 || mac[0]&1 == 1 {
				t.Errorf("%s is no locally administered address of one adapter (%v)", a.MacAddress, err)
			}
			if seen[a.MacAddress] {
				t.Errorf("%s is the address of two", a.MacAddress)
			}
			seen[a.MacAddress] = true
		}
		closed(t, m)
	}
}

func TestBootedFromIsKnownWhileTheMachineIsOnAlone(t *testing.T) {
	t.Parallel()
	m, c, _ := opened(t, nil)
	shown := func(want string) {
		t.Helper()
		if got := inventoryOf(t, m).BootedFrom; got != want {
			t.Errorf("booted from %q, want %q", got, want)
		}
	}
	shown("")
	reset(t, m, generated.ResetTypeOn)
	shown("")
	c.pass(bootTime)
	shown("Boot0000")
	reset(t, m, generated.ResetTypeForceOff)
	shown("")
}

func TestFirmwareStartsFromTheFirstOptionThatWorks(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name     string
		settings smm.Settings
		order    []string
		from     string
		event    string
	}{
		{"as from the factory", nil, []string{"Boot0000", "Boot0001", "Boot0002", "Boot0003", "Boot0004"}, "Boot0000", "BiosV.1.0.MachineStarted"},
		{"network first", smm.Settings{"BootOrder": {"Boot0002", "Boot0000"}}, []string{"Boot0002", "Boot0000"}, "Boot0002", "BiosV.1.0.MachineStarted"},
		{"no medium in the first", smm.Settings{"BootOrder": {"Boot0003", "Boot0004"}}, []string{"Boot0003", "Boot0004"}, "Boot0004", "BiosV.1.0.MachineStarted"},
		{"the network is off", smm.Settings{"BootOrder": {"Boot0001", "Boot0000"}, "NetworkBoot": {"Disabled"}}, []string{"Boot0000"}, "Boot0000", "BiosV.1.0.MachineStarted"},
		{"no USB", smm.Settings{"UsbPorts": {"Disabled"}}, []string{"Boot0000", "Boot0001", "Boot0002", "Boot0004"}, "Boot0000", "BiosV.1.0.MachineStarted"},
		{"no medium at all", smm.Settings{"BootOrder": {"Boot0003"}}, []string{"Boot0003"}, "", "BiosV.1.0.NothingToStart"},
		{"nothing to try", smm.Settings{"BootOrder": {}}, nil, "", "BiosV.1.0.NothingToStart"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m, _, s := running(t, row.settings)
			i := inventoryOf(t, m)
			if got := bootOrderOf(i); !slices.Equal(got, row.order) {
				t.Errorf("the order is %v, want %v", got, row.order)
			}
			if i.BootedFrom != row.from {
				t.Errorf("booted from %q, want %q", i.BootedFrom, row.from)
			}
			if got := s.messages(); !slices.Equal(got, []string{row.event}) {
				t.Errorf("the events are %v, want %s", got, row.event)
			}
		})
	}
}

func TestNetworkOptionsNameProtocolAndAddress(t *testing.T) {
	t.Parallel()
	m, _, _ := running(t, smm.Settings{"NetworkBoot": {"HTTP"}})
	i := inventoryOf(t, m)
	for n, a := range i.Adapter {
		d := i.BootOption[1+n].Description
		if !strings.Contains(d, "HTTP") || !strings.Contains(d, strings.ToUpper(strings.ReplaceAll(a.MacAddress, ":", ""))) || a.BootProtocol != "HTTP" {
			t.Errorf("%s (%s) is offered as %q", a.MacAddress, a.BootProtocol, d)
		}
	}
}
