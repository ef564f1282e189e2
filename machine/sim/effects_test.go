package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine/host"
	"biosv/security/audit"
	"biosv/smm"
	"biosv/smm/attribute"
	"biosv/smm/domain"
	"biosv/smm/eventlog"
	"biosv/smm/inventory"
	"biosv/smm/power"
	"biosv/smm/thermal"
	"biosv/store"
)

// house is a service in a folder, with the domain demo, wired as cmd/biosv does it but for the clock and the doors.
type house struct {
	generated.Functions
	bios     *smm.BIOS
	store    *store.Store
	refusals *audit.Refusals
	path     string
	clock    *setClock
	call     generated.Call
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{path: filepath.Join(t.TempDir(), "state.db"), clock: newClock()}
	h.open(t)
	t.Cleanup(func() { h.close(t) })
	if _, err := h.CreateDomain(t.Context(), h.bios.LocalCall(smm.PrivilegedDomain), &generated.CreateDomainRequest{
		Name: new(generated.DomainName("demo")), DomainKind: new(generated.DomainKindSimulated), SimulationSeed: new(generated.SimulationSeed(7)),
	}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) open(t *testing.T) {
	t.Helper()
	var err error
	if h.store, err = store.Open(h.path, store.Options{}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	rows := audit.New(h.clock.Now)
	h.refusals = audit.NewRefusals(rows, h.store, log)
	h.bios = smm.New(smm.Config{
		Store: h.store, Ledger: eventlog.NewLedger(rows, h.refusals), Clock: h.clock.Now, Log: log,
		Machines: map[generated.DomainKind]smm.Opener{
			generated.DomainKindPrivileged: host.Open,
			generated.DomainKindSimulated: func(_ context.Context, d smm.Domain, settings smm.Settings, s smm.Supervisor) (smm.Machine, error) {
				return open(d, settings, s, h.clock), nil
			},
		},
	})
	attributes := attribute.New(h.bios)
	powers := power.New(h.bios, attributes)
	h.call = h.bios.LocalCall("demo")
	h.Functions = generated.Functions{
		AttributePort: attributes, PowerPort: powers, DomainPort: domain.New(h.bios, nil), EventlogPort: eventlog.New(h.bios, rows),
		InventoryPort: inventory.New(h.bios), ThermalPort: thermal.New(h.bios),
	}
	if err := errors.Join(
		h.bios.EnsurePrivileged(t.Context(), uuid.NewString()),
		h.bios.Start(t.Context()),
		powers.Restore(t.Context()),
	); err != nil {
		t.Fatal(err)
	}
}

func (h *house) close(t *testing.T) {
	t.Helper()
	err := h.bios.Close()
	h.refusals.Close()
	if err := errors.Join(err, h.store.Close()); err != nil {
		t.Error(err)
	}
}

func (h *house) set(name string, value ...string) error {
	_, err := h.SetAttributes(context.Background(), h.call, &generated.SetAttributesRequest{Attribute: []*generated.AttributeValue{{Name: name, NewValue: value}}})
	return err
}

func (h *house) mustSet(t *testing.T, name string, value ...string) {
	t.Helper()
	if err := h.set(name, value...); err != nil {
		t.Fatalf("set %s to %q: %v", name, value, err)
	}
}

func (h *house) reset(t *testing.T, how generated.ResetType) {
	t.Helper()
	if _, err := h.ResetSystem(t.Context(), h.call, &generated.ResetSystemRequest{ResetType: &how}); err != nil {
		t.Fatalf("%s: %v", how, err)
	}
}

func (h *house) inventory(t *testing.T) *generated.SystemInventory {
	t.Helper()
	r, err := h.GetSystemInventory(t.Context(), h.call, &generated.GetSystemInventoryRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Inventory
}

func (h *house) thermal(t *testing.T) *generated.ThermalReading {
	t.Helper()
	r, err := h.GetThermal(t.Context(), h.call, &generated.GetThermalRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Thermal
}

func (h *house) power(t *testing.T) string {
	t.Helper()
	r, err := h.GetPowerState(t.Context(), h.call, &generated.GetPowerStateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return string(*r.PowerState)
}

// What the other operations show.

func assetTag(t *testing.T, h *house) string { t.Helper(); return h.inventory(t).AssetTag }
func location(t *testing.T, h *house) string { t.Helper(); return h.inventory(t).Location }

func feature(name string) func(*testing.T, *house) string {
	return func(t *testing.T, h *house) string {
		t.Helper()
		var has []bool
		for _, p := range h.inventory(t).Processor {
			has = append(has, slices.Contains(p.Feature, name))
		}
		return fmt.Sprint(has)
	}
}

func coresAndThreads(t *testing.T, h *house) string {
	t.Helper()
	p := h.inventory(t).Processor[1]
	return fmt.Sprintf("%d of %d cores, %d threads", p.EnabledCoreCount, p.CoreCount, p.ThreadCount)
}

func usable(t *testing.T, h *house) string {
	t.Helper()
	return fmt.Sprint(h.inventory(t).UsableMemoryMiB, " MiB")
}

func speeds(t *testing.T, h *house) string {
	t.Helper()
	var list []uint32
	for _, m := range h.inventory(t).Memory {
		list = append(list, m.SpeedMTs)
	}
	return fmt.Sprint(list)
}

func orderAndStart(t *testing.T, h *house) string {
	t.Helper()
	i := h.inventory(t)
	return fmt.Sprint(bootOrderOf(i), " from ", i.BootedFrom)
}

func adapters(t *testing.T, h *house) string {
	t.Helper()
	var list []string
	for _, a := range h.inventory(t).Adapter {
		list = append(list, fmt.Sprint(a.BootCapable, a.BootProtocol))
	}
	return strings.Join(list, ", ")
}

func device(class string) func(*testing.T, *house) string {
	return func(t *testing.T, h *house) string {
		t.Helper()
		for _, d := range h.inventory(t).Device {
			if d.DeviceClass == class {
				return d.Detail
			}
		}
		return "absent"
	}
}

func fanPolicy(t *testing.T, h *house) string {
	t.Helper()
	r := h.thermal(t)
	return fmt.Sprintf("%s, %d %%", *r.ThermalPolicy, *r.Fan[0].ReadingPercent)
}

func systemPower(t *testing.T, h *house) string {
	t.Helper()
	return fmt.Sprint(readingOf(t, h.thermal(t), "System Power"), " mW")
}

func loads(t *testing.T, h *house) string {
	t.Helper()
	r := h.thermal(t)
	return fmt.Sprintf("%d %%, %d %%", readingOf(t, r, "CPU1 Load"), readingOf(t, r, "CPU2 Load"))
}

func soonAfterStart(t *testing.T, h *house) string {
	t.Helper()
	h.reset(t, generated.ResetTypeForceRestart)
	h.clock.pass(20 * time.Second)
	return h.power(t)
}

func reported(t *testing.T, h *house) string {
	t.Helper()
	request := &generated.GetEventLogRequest{}
	reply, err := h.GetEventLog(t.Context(), h.call, request)
	if err != nil {
		t.Fatal(err)
	}
	h.reset(t, generated.ResetTypeForceRestart)
	request.After = reply.LastPosition
	if reply, err = h.GetEventLog(t.Context(), h.call, request); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range reply.Record {
		if id := strings.TrimPrefix(r.MessageId, "BiosV.1.0."); id == "MachineStarted" || id == "HardwareFound" {
			ids = append(ids, id)
		}
	}
	return fmt.Sprint(ids)
}

func afterBiosvStartsAgain(t *testing.T, h *house) string {
	t.Helper()
	h.close(t)
	h.clock.pass(time.Hour)
	h.open(t)
	h.clock.pass(time.Minute)
	return h.power(t)
}

// changeWithoutPassword gives the code of the refusal.
func changeWithoutPassword(t *testing.T, h *house) string {
	t.Helper()
	err := h.set("AssetTag", uuid.NewString())
	var denied *generated.AccessDeniedFault
	if errors.As(err, &denied) {
		return denied.Code
	}
	if err != nil {
		t.Fatal(err)
	}
	return "taken"
}

type setting struct {
	name  string
	value []string
}

func to(name string, value ...string) setting { return setting{name, value} }

func TestEveryWritableAttributeHasAnEffectThatAnotherOperationShows(t *testing.T) {
	t.Parallel()
	rows := []struct {
		set      setting
		show     func(*testing.T, *house) string
		want     string
		restarts bool // to show it takes a start, or a change
		given    []setting
	}{
		{set: to("AssetTag", "rack <7> & é"), show: assetTag, want: "rack <7> & é"},
		{set: to("AssetTag", ""), given: []setting{to("AssetTag", "after the backup")}, show: assetTag, want: ""},
		{set: to("Location", "Hall 2/Rack 14/U 7"), show: location, want: "Hall 2/Rack 14/U 7"},
		{set: to("ProcessorVirtualization", "Disabled"), show: feature("vmx"), want: "[false false]"},
		{set: to("ProcessorAes", "false"), show: feature("aes"), want: "[false false]"},
		{set: to("SimultaneousMultithreading", "false"), show: coresAndThreads, want: "16 of 16 cores, 16 threads"},
		{set: to("EnabledCoresPerProcessor", "6"), show: coresAndThreads, want: "6 of 16 cores, 12 threads"},
		{set: to("MemoryMode", "Mirrored"), show: usable, want: "65024 MiB"},
		{set: to("MemoryMode", "Mirrored"), show: speeds, want: "[4400 4400 4400 4400]"},
		{set: to("MemorySpeed", "4000"), show: speeds, want: "[4000 4000 4000 4000]"},
		{set: to("BootOrder", "Boot0002", "Boot0000"), show: orderAndStart, want: "[Boot0002 Boot0000] from Boot0002"},
		{set: to("BootOrder"), show: orderAndStart, want: "[] from "},
		{set: to("NetworkBoot", "HTTP"), show: adapters, want: "trueHTTP, trueHTTP"},
		{set: to("NetworkBoot", "Disabled"), show: adapters, want: "false, false"},
		{set: to("BootDelaySeconds", "30"), show: soonAfterStart, want: "PoweringOn", restarts: true},
		{set: to("BootReport", "Problems"), show: reported, want: "[]", restarts: true},
		{set: to("BootReport", "Detailed"), show: reported, want: "[MachineStarted HardwareFound]", restarts: true},
		{set: to("StorageMode", "RAID"), show: device("Storage"), want: "RAID mode, 1 NVMe drive"},
		{set: to("UsbPorts", "RearOnly"), show: device("Usb"), want: "rear ports"},
		{set: to("UsbPorts", "Disabled"), show: device("Usb"), want: "absent"},
		{set: to("SecurityDevice", "false"), show: device("SecurityDevice"), want: "absent"},
		{set: to("SerialConsole", "false"), show: device("SerialConsole"), want: "absent"},
		{set: to("SerialConsoleBaud", "9600"), show: device("SerialConsole"), want: "COM1, 9600 baud"},
		{set: to("PowerRestorePolicy", "AlwaysOff"), show: afterBiosvStartsAgain, want: "Off", restarts: true},
		{set: to("ThermalPolicy", "Performance"), given: []setting{to("SimulatedLoad", "Full")}, show: fanPolicy, want: "Performance, 100 %"},
		{set: to("ThermalPolicy", "Quiet"), given: []setting{to("SimulatedLoad", "Full")}, show: fanPolicy, want: "Quiet, 55 %"},
		{
			set: to("FanMinimumPercent", "60"), given: []setting{to("ThermalPolicy", "Custom"), to("SimulatedLoad", "Idle")},
			show: fanPolicy, want: "Custom, 60 %",
		},
		{set: to("ProcessorPowerLimitWatts", "100"), given: []setting{to("SimulatedLoad", "Full")}, show: systemPower, want: "305375 mW"},
		{set: to("SimulatedLoad", "Full"), show: loads, want: "100 %, 100 %"},
		{set: to(attribute.AdministratorSecret, "Correct horse"), show: changeWithoutPassword, want: string(fault.WrongPassword), restarts: true},
	}
	shown := map[string]bool{}
	byName := definitionsByName(t)
	for _, row := range rows {
		shown[row.set.name] = true
		t.Run(row.set.name+"="+strings.Join(row.set.value, ","), func(t *testing.T) {
			t.Parallel()
			d := byName[row.set.name]
			if d == nil {
				t.Fatal("there is no such attribute")
			}
			h := newHouse(t)
			h.reset(t, generated.ResetTypeOn)
			h.clock.pass(time.Minute)
			for _, s := range row.given {
				h.mustSet(t, s.name, s.value...)
			}
			before := row.show(t, h)
			if before == row.want {
				t.Fatalf("it is %q already", before)
			}
			if h.clock.pass(time.Minute); h.power(t) != "On" {
				t.Fatal("the machine is not on")
			}
			h.mustSet(t, row.set.name, row.set.value...)
			if d.ResetRequired && !row.restarts {
				if now := row.show(t, h); now != before {
					t.Errorf("before the next start, %q became %q", before, now)
				}
				h.reset(t, generated.ResetTypeForceRestart)
				h.clock.pass(time.Minute)
			}
			if after := row.show(t, h); after != row.want {
				t.Errorf("%q became %q, want %q", before, after, row.want)
			}
		})
	}
	for name, d := range byName {
		if d.ReadOnly == shown[name] {
			t.Errorf("%s: read-only %v, with a row %v", name, d.ReadOnly, shown[name])
		}
	}
}

func TestPowerComesBackAsThePolicySays(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		policy string
		on     bool // when biosv ended
		want   string
	}{
		{power.LastState, true, "On"},
		{power.LastState, false, "Off"},
		{power.AlwaysOn, true, "On"},
		{power.AlwaysOn, false, "On"},
		{power.AlwaysOff, true, "Off"},
		{power.AlwaysOff, false, "Off"},
	} {
		t.Run(fmt.Sprintf("%s, was on %v", row.policy, row.on), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.mustSet(t, "PowerRestorePolicy", row.policy)
			h.reset(t, generated.ResetTypeOn)
			h.clock.pass(time.Minute)
			if !row.on {
				h.reset(t, generated.ResetTypeGracefulShutdown)
				h.clock.pass(time.Minute)
			}
			if got := afterBiosvStartsAgain(t, h); got != row.want {
				t.Errorf("the power is %s, want %s", got, row.want)
			}
		})
	}
}

// A start that a restart brings about later takes the pending values along, as one that is asked for does.
func TestPendingValuesAreInForceAfterAGracefulRestart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.reset(t, generated.ResetTypeOn)
	h.clock.pass(time.Minute)
	h.mustSet(t, "MemoryMode", "Mirrored")
	h.reset(t, generated.ResetTypeGracefulRestart)
	h.clock.pass(shutdownTime)
	m, err := h.bios.Machine("demo")
	if err != nil {
		t.Fatal(err)
	}
	m.(*Machine).starts.Wait()
	h.clock.pass(bootTime)
	if got := h.power(t) + ", " + usable(t, h); got != "On, 65024 MiB" {
		t.Errorf("got %s", got)
	}
	pending, err := h.GetPendingAttributes(t.Context(), h.call, &generated.GetPendingAttributesRequest{})
	if err != nil || len(pending.Attribute) != 0 {
		t.Errorf("%d values wait still (%v)", len(pending.Attribute), err)
	}
}

func TestDependenciesOfTheRegistryAreObeyed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, row := range []struct {
		given setting
		set   setting
		code  fault.Code
	}{
		{to("ThermalPolicy", "Quiet"), to("FanMinimumPercent", "60"), fault.ReadOnlyAttribute},
		{to("SerialConsole", "false"), to("SerialConsoleBaud", "9600"), fault.HiddenAttribute},
		{to("MemoryMode", "Mirrored"), to("MemorySpeed", "4800"), fault.ValueLimited},
	} {
		h.mustSet(t, row.given.name, row.given.value...)
		var refused *generated.InvalidAttributeFault
		if err := h.set(row.set.name, row.set.value...); !errors.As(err, &refused) {
			t.Errorf("%s: %v", row.set.name, err)
		} else if got := refused.Refusal[0].Code; got != string(row.code) {
			t.Errorf("%s was refused with %s, want %s", row.set.name, got, row.code)
		}
	}
}

func TestHiddenAttributeIsListedByItsNameAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, names := range [][]string{nil, {"SimulatedLoad"}} {
		reply, err := h.GetAttributes(t.Context(), h.call, &generated.GetAttributesRequest{Name: names})
		if err != nil {
			t.Fatal(err)
		}
		listed := slices.ContainsFunc(reply.Attribute, func(a *generated.AttributeState) bool { return a.Name == "SimulatedLoad" })
		if listed != (names != nil) {
			t.Errorf("asked for %q, it is listed: %v", names, listed)
		}
	}
}
