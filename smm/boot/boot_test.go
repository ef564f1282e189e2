package boot_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/internal/testca"
	"biosv/security"
	"biosv/smm"
	"biosv/smm/boot"
	"biosv/smm/variable"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
)

// bench is a machine with two disks, a shell and a setup.
type bench struct {
	*testing.T
	*testbios.BIOS
	f         *boot.Function
	variables *variable.Function
	call      generated.Call
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := testbios.New(t, testbios.Options{})
	v := variable.New(b.BIOS)
	f := boot.New(b.BIOS, v)
	v.Boots = f
	return &bench{t, b, f, v, b.Call(testca.Principal(t, "spiffe://biosv.test/person/alice"), "demo")}
}

// Nodes of device paths.
const (
	root  = "\x02\x01\x0c\x00\xd0\x41\x03\x0a\x00\x00\x00\x00"
	disk  = "\x01\x01\x06\x00\x00" // and a device number
	shell = "\x04\x06\x14\x00\x83\xa5\x04\x7c\x3e\x9e\x1c\x4f\xad\x65\xe0\x52\x68\xd0\xb4\xd1"
	setup = "\x04\x06\x14\x00\x21\xaa\x2c\x46\x14\x76\x03\x45\x83\x6e\x8a\xb6\xf4\x66\x23\x31"
	end   = "\x7f\xff\x04\x00"
)

func loadOption(attributes uint32, description, path string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, attributes)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	for _, u := range append(utf16.Encode([]rune(description)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, path...)
}

// furnish makes the options that firmware would have made.
func furnish(t *testing.T) *bench {
	b := newBench(t)
	b.firmware("Boot0000", loadOption(0x109, "UiApp", setup+end))
	b.firmware("Boot0001", loadOption(1, "UEFI Misc Device", root+disk+"\x02"+end))
	b.firmware("Boot0002", loadOption(1, "UEFI Misc Device 2", root+disk+"\x03"+end))
	b.firmware("Boot0003", loadOption(0, "EFI Internal Shell", shell+end))
	b.firmware("BootOrder", []byte{2, 0, 1, 0, 9, 0})
	return b
}

var (
	volatile    = []generated.VariableAttribute{generated.VariableAttributeBootServiceAccess, generated.VariableAttributeRuntimeAccess}
	nonvolatile = append([]generated.VariableAttribute{generated.VariableAttributeNonVolatile}, volatile...)
)

// guest writes a variable as the guest in a phase; no value deletes it.
func (b *bench) guest(phase security.Phase, name string, value []byte) error {
	call := generated.Call{ID: "1", Principal: security.GuestOf("biosv.test", "demo"), Door: security.DoorUEFI, Phase: phase, Domain: "demo"}
	n := new(generated.VariableName(name))
	if value == nil {
		_, err := b.variables.DeleteVariable(b.Context(), call, &generated.DeleteVariableRequest{Name: n})
		return err
	}
	r := &generated.SetVariableRequest{Name: n, VariableData: value}
	attributes := nonvolatile
	if name == "BootCurrent" {
		attributes = volatile
	}
	for _, a := range attributes {
		r.VariableAttribute = append(r.VariableAttribute, new(a))
	}
	_, err := b.variables.SetVariable(b.Context(), call, r)
	return err
}

func (b *bench) firmware(name string, value []byte) {
	b.Helper()
	if err := b.guest(security.PhaseBootServices, name, value); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) system(name string, value []byte) {
	b.Helper()
	if err := b.guest(security.PhaseOperatingSystem, name, value); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) options() *generated.GetBootOptionsReply {
	b.Helper()
	reply, err := b.f.GetBootOptions(b.Context(), b.call, &generated.GetBootOptionsRequest{})
	if err != nil {
		b.Fatal(err)
	}
	return reply
}

func (b *bench) value(name string) []byte {
	b.Helper()
	reply, err := b.variables.GetVariable(b.Context(), b.LocalCall("demo"), &generated.GetVariableRequest{Name: new(generated.VariableName(name))})
	var missing *generated.NotFoundFault
	if errors.As(err, &missing) {
		return nil
	} else if err != nil {
		b.Fatal(err)
	}
	return reply.VariableData
}

func reference(s string) *generated.BootOptionReference {
	return new(generated.BootOptionReference(s))
}

func references(list ...string) (r []*generated.BootOptionReference) {
	for _, s := range list {
		r = append(r, reference(s))
	}
	return r
}

func TestTheOptionsAreThoseOfTheVariables(t *testing.T) {
	t.Parallel()
	b := furnish(t)
	b.firmware("Timeout", []byte{3, 0})
	b.firmware("BootCurrent", []byte{2, 0})
	b.system("BootNext", []byte{1, 0})
	b.firmware("Boot00FF", []byte("nonsense"))
	const pciRoot = "PciRoot(0x0)/"
	want := &generated.GetBootOptionsReply{
		Version: new(b.Version("demo")),
		BootOption: []*generated.BootOption{
			{BootOptionReference: reference("Boot0002"), DisplayName: "UEFI Misc Device 2", BootOptionEnabled: true, BootTarget: new(generated.BootTargetHdd), UefiDevicePath: pciRoot + "Pci(0x3,0x0)"},
			{BootOptionReference: reference("Boot0001"), DisplayName: "UEFI Misc Device", BootOptionEnabled: true, BootTarget: new(generated.BootTargetHdd), UefiDevicePath: pciRoot + "Pci(0x2,0x0)"},
			{BootOptionReference: reference("Boot0000"), DisplayName: "UiApp", BootOptionEnabled: true, BootOptionHidden: true, BootTarget: new(generated.BootTargetBiosSetup), UefiDevicePath: "FvFile(462CAA21-7614-4503-836E-8AB6F4662331)"},
			{BootOptionReference: reference("Boot0003"), DisplayName: "EFI Internal Shell", BootTarget: new(generated.BootTargetUefiShell), UefiDevicePath: "FvFile(7C04A583-9E3E-4F1C-AD65-E05268D0B4D1)"},
			{BootOptionReference: reference("Boot00FF")},
		},
		BootOrder: references("Boot0002", "Boot0001", "Boot0009"), BootNext: reference("Boot0001"), BootCurrent: reference("Boot0002"),
		BootOverride:       &generated.BootOverride{BootTarget: new(generated.BootTargetUefiTarget), BootOverrideMode: new(generated.BootOverrideModeOnce), BootOptionReference: reference("Boot0001")},
		BootTimeoutSeconds: new(generated.BootTimeout(3)),
	}
	if diff := cmp.Diff(want, b.options()); diff != "" {
		t.Error(diff)
	}
}

func TestAMachineThatNeverStartedHasNoOptions(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if diff := cmp.Diff(&generated.GetBootOptionsReply{Version: new(b.Version("demo"))}, b.options()); diff != "" {
		t.Error(diff)
	}
}

func TestAnOrderThatNamesAnOptionTwiceOrHalfHasItOnce(t *testing.T) {
	t.Parallel()
	b := furnish(t)
	b.system("BootOrder", []byte{1, 0, 2, 0, 1, 0, 3})
	if diff := cmp.Diff(references("Boot0001", "Boot0002"), b.options().BootOrder); diff != "" {
		t.Error(diff)
	}
}

// What a store that was imported has in place of a number is no reason to tell nothing.
func TestVariablesOfAnotherFormCountAsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.ChangeBeside(t.Context(), b.LocalCall("demo"), "Import", func(tx *smm.Tx) error {
		s, err := b.variables.Services(tx, services.Boot)
		if err != nil {
			return err
		}
		for _, name := range []string{"BootNext", "BootCurrent", "Timeout", "OsIndications"} {
			if err := s.State.Put(services.Key{Vendor: efi.GlobalVariable, Name: name}, services.Variable{Attributes: efi.NonVolatile | efi.BootServiceAccess | efi.RuntimeAccess, Data: []byte{1}}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := &generated.GetBootOptionsReply{Version: new(b.Version("demo"))}
	if diff := cmp.Diff(want, b.options()); diff != "" {
		t.Error(diff)
	}
	b.begin()
}

func (b *bench) order(version *generated.StateVersion, list ...string) error {
	_, err := b.f.SetBootOrder(b.Context(), b.call, &generated.SetBootOrderRequest{BootOptionReference: references(list...), Version: version})
	return err
}

func TestSetBootOrderIsTheVariable(t *testing.T) {
	t.Parallel()
	b := furnish(t)
	version := b.Version("demo")
	if err := b.order(&version, "Boot0001", "Boot0003"); err != nil {
		t.Fatal(err)
	}
	if got := b.value("BootOrder"); string(got) != "\x01\x00\x03\x00" {
		t.Errorf("BootOrder is %x", got)
	}
	reply := b.options()
	if diff := cmp.Diff(references("Boot0001", "Boot0003"), reply.BootOrder); diff != "" {
		t.Error(diff)
	}
	var listed []string
	for _, o := range reply.BootOption {
		listed = append(listed, string(*o.BootOptionReference))
	}
	if want := []string{"Boot0001", "Boot0003", "Boot0000", "Boot0002"}; !slices.Equal(listed, want) {
		t.Errorf("the options come as %q, not %q", listed, want)
	}
	events := b.Events("demo")
	last := events[len(events)-1]
	if last.MessageId != "BiosV.1.0.BootOrderChanged" || last.Actor != b.call.Principal.String() || len(last.Change) != 1 ||
		last.Change[0].OldValue != "Boot0002 Boot0001 Boot0009" || last.Change[0].NewValue != "Boot0001 Boot0003" {
		t.Errorf("the event log tells %+v", last)
	}
	version = b.Version("demo")
	if err := b.order(nil, "Boot0001", "Boot0003"); err != nil || b.Version("demo") != version {
		t.Errorf("an order that is as it is: %v", err)
	}
}

// refusal is a fault's name, code and path.
func refusal(err error) string {
	var invalid *generated.InvalidRequestFault
	var missing *generated.NotFoundFault
	var conflict *generated.ConflictFault
	var unavailable *generated.UnavailableFault
	switch {
	case errors.As(err, &invalid):
		return invalid.Code + " " + invalid.ElementPath
	case errors.As(err, &missing):
		return missing.Code + " " + missing.ElementPath
	case errors.As(err, &conflict):
		return conflict.Code
	case errors.As(err, &unavailable):
		return unavailable.Code
	}
	return fmt.Sprint(err)
}

func TestSetBootOrderRefuses(t *testing.T) {
	t.Parallel()
	b := furnish(t)
	stale := b.Version("demo") - 1
	for _, row := range []struct {
		version *generated.StateVersion
		list    []string
		want    string
	}{
		{nil, []string{"Boot0001", "Boot0009"}, "UnknownBootOption /SetBootOrder/BootOptionReference[2]"}, // though it stands in the order
		{nil, []string{"Boot0001", "Boot0002", "Boot0001"}, "DuplicateItem /SetBootOrder/BootOptionReference[3]"},
		{&stale, []string{"Boot0001"}, "StaleVersion"},
	} {
		if got := refusal(b.order(row.version, row.list...)); got != row.want {
			t.Errorf("%q: %s", row.list, got)
		}
	}
	if got := b.value("BootOrder"); string(got) != "\x02\x00\x01\x00\x09\x00" {
		t.Errorf("BootOrder is %x", got)
	}
}

func TestNothingIsSetWhileTheMachineActs(t *testing.T) {
	t.Parallel()
	b := furnish(t)
	if err := b.Act(t.Context(), b.LocalCall("demo"), generated.OpResetSystem, smm.Action{
		Intend: func(*smm.Tx) error { return nil },
		Act: func(context.Context, smm.Machine) error {
			if got := refusal(b.order(nil, "Boot0001")); got != "OperationUnderWay" {
				t.Errorf("the order: %s", got)
			}
			if got := refusal(b.set("once Hdd")); got != "OperationUnderWay" {
				t.Errorf("the override: %s", got)
			}
			b.options()
			b.begin() // as the machine does
			return nil
		},
	}); err != nil {
		t.Fatal(err)
	}
}

// set sets an override, said as "once TARGET", "always TARGET" or "clear"; an option is a target.
func (b *bench) set(how string) error {
	mode, target, _ := strings.Cut(how, " ")
	r := &generated.SetBootOverrideRequest{BootTarget: new(generated.BootTarget(target))}
	switch mode {
	case "once":
		r.BootOverrideMode = new(generated.BootOverrideModeOnce)
	case "always":
		r.BootOverrideMode = new(generated.BootOverrideModeContinuous)
	case "clear":
		r.BootTarget = new(generated.BootTargetNone)
	}
	if strings.HasPrefix(target, "Boot0") {
		r.BootTarget, r.BootOptionReference = new(generated.BootTargetUefiTarget), reference(target)
	}
	_, err := b.f.SetBootOverride(b.Context(), b.call, r)
	return err
}

func (b *bench) begin() {
	b.Helper()
	if _, _, err := b.variables.Begin(b.Context(), "demo"); err != nil {
		b.Fatal(err)
	}
}
