package variable_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"biosv/generated"
	"biosv/security"
	"biosv/smm"
	"biosv/smm/variable/auth"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/flash"
	"biosv/smm/variable/services"
)

const (
	nv = generated.VariableAttributeNonVolatile
	bs = generated.VariableAttributeBootServiceAccess
	rt = generated.VariableAttributeRuntimeAccess
)

// as is the bench of another caller.
func (b *bench) as(who security.Principal, phase security.Phase) *bench {
	c := *b
	c.call.Principal, c.call.Door, c.call.Phase = who, security.DoorUEFI, phase
	return &c
}

func (b *bench) names() (names []string) {
	b.Helper()
	reply, err := b.f.ListVariables(b.Context(), b.call, &generated.ListVariablesRequest{})
	if err != nil {
		b.Fatal(err)
	}
	for _, v := range reply.Variable {
		names = append(names, string(*v.Name))
	}
	return names
}

func TestAGuestHasTheRightsOfItsPhase(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.set("Firmware", new(vendor), []byte("secret"), nv, bs); err != nil {
		t.Fatal(err)
	}
	if err := b.set("Both", new(vendor), []byte("shared"), nv, bs, rt); err != nil {
		t.Fatal(err)
	}
	guest := security.GuestOf("biosv.local", "demo")
	for name, row := range map[string]struct {
		phase security.Phase
		sees  bool
	}{
		"firmware": {security.PhaseBootServices, true}, "operating system": {security.PhaseOperatingSystem, false},
		"a certificate": {"", false}, // which its operating system has
	} {
		g := b.as(guest, row.phase)
		if _, err := g.get("Both", new(vendor)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err := g.get("Firmware", new(vendor))
		var missing *generated.NotFoundFault
		if row.sees && err != nil || !row.sees && !errors.As(err, &missing) {
			t.Errorf("%s: %v", name, err)
		}
		if names := g.names(); slices.Contains(names, "Firmware") != row.sees || !slices.Contains(names, "Both") {
			t.Errorf("%s lists %q", name, names)
		}
		err = g.set("Mine", new(vendor), []byte{1}, nv, bs)
		if row.sees && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !row.sees {
			status(t, err, "EFI_INVALID_PARAMETER")
		}
	}
}

// begin begins a boot, and gives the flash and what is in it.
func (b *bench) begin() (file []byte, variables map[string]flash.Variable) {
	b.Helper()
	file, _, err := b.f.Begin(b.Context(), "demo")
	if err != nil {
		b.Fatal(err)
	}
	store, err := flash.Parse(file)
	if err != nil {
		b.Fatal(err)
	}
	variables = map[string]flash.Variable{}
	for _, v := range store.Variables {
		variables[v.Name] = v
	}
	return file, variables
}

func TestABootBeginsWithTheNonvolatileVariables(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, err := range []error{
		b.set("Kept", new(vendor), []byte("kept"), nv, bs, rt), b.set("Volatile", new(vendor), []byte("gone"), bs, rt),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, variables := b.begin()
	if v := variables["Kept"]; string(v.Data) != "kept" || len(variables) != 1 {
		t.Errorf("the flash has %v", variables)
	}
	var missing *generated.NotFoundFault
	if _, err := b.get("Volatile", new(vendor)); !errors.As(err, &missing) {
		t.Errorf("a volatile variable: %v", err)
	}
	b.enroll(&generated.EnrollSecureBootKeysRequest{SecureBootKeySet: new(generated.SecureBootKeySetMicrosoft)})
	if _, on, err := b.f.Begin(t.Context(), "demo"); err != nil || !on {
		t.Errorf("with keys, Secure Boot is on: %t, %v", on, err)
	}
	told := func() (value string) {
		t.Helper()
		if err := b.View(t.Context(), b.call, func(tx *smm.Tx) (err error) {
			value, err = b.f.SecureBootOn(tx)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return value
	}
	if _, err := b.f.SetSecureBoot(t.Context(), b.call, &generated.SetSecureBootRequest{SecureBootEnabled: new(generated.SecureBootSwitchOff)}); err != nil {
		t.Fatal(err)
	}
	if value := told(); value != "true" {
		t.Errorf("until the next start, the attribute is %s", value)
	}
	if _, on, err := b.f.Begin(t.Context(), "demo"); err != nil || on || told() != "false" {
		t.Errorf("when it was switched off, Secure Boot is on: %t, and the attribute is %s, %v", on, told(), err)
	}
}

func TestWhatFirmwareWroteBeforeItAskedIsTakenOver(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, name := range []generated.VariableName{"Stays", "Changes", "Goes"} {
		if err := b.set(name, new(vendor), []byte("before"), nv, bs, rt); err != nil {
			t.Fatal(err)
		}
	}
	rendered, variables := b.begin()
	if err := b.set("Stays", new(vendor), []byte("set since"), nv, bs, rt); err != nil {
		t.Fatal(err)
	}
	changed, owner := variables["Changes"], auth.Owner{7}
	changed.Data = []byte("by the firmware")
	made := flash.Variable{Key: services.Key{Vendor: efi.MustGUID(string(vendor)), Name: "Made"}, Variable: services.Variable{
		Attributes: efi.NonVolatile | efi.BootServiceAccess | efi.TimeBasedAuthenticated, Data: []byte{1}, TimeStamp: efi.NewTime(2026, 1, 1, 0, 0, 0), Owner: &owner,
	}}
	found, err := flash.Render([]flash.Variable{variables["Stays"], changed, made})
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(found)
	damaged[16] ^= 0xff
	if err := b.f.TakeOver(t.Context(), "demo", rendered, damaged); err == nil {
		t.Error("what is no store is taken over")
	}
	if err := b.f.TakeOver(t.Context(), "demo", rendered, found); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[generated.VariableName]string{"Stays": "set since", "Changes": "by the firmware", "Made": "\x01"} {
		if got, err := b.get(name, new(vendor)); err != nil || string(got.VariableData) != want {
			t.Errorf("%s is %v, %v", name, got, err)
		}
	}
	var missing *generated.NotFoundFault
	if _, err := b.get("Goes", new(vendor)); !errors.As(err, &missing) {
		t.Errorf("what the firmware deleted: %v", err)
	}
	_, variables = b.begin()
	if v := variables["Made"]; v.Owner == nil || *v.Owner != owner {
		t.Errorf("its owner is %v", v.Owner)
	}
}
