//go:build guest

package variable_test

import (
	"bytes"
	"errors"
	"testing"

	"biosv/generated"
	"biosv/internal/ovmf"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/flash"
	"biosv/smm/variable/services"
)

// What is exported is a flash that stock OVMF starts with under plain QEMU, and has the variables of; and what OVMF
// made of it, with all that it keeps for itself, is imported without loss.
func TestOVMFStartsWithWhatIsExportedAndItsFlashIsImported(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.enroll(&generated.EnrollSecureBootKeysRequest{SecureBootKeySet: new(generated.SecureBootKeySetMicrosoft)})
	names := []generated.VariableAttribute{generated.VariableAttributeNonVolatile, generated.VariableAttributeBootServiceAccess, generated.VariableAttributeRuntimeAccess, generated.VariableAttributeTimeBasedAuthenticated}
	for _, err := range []error{
		b.set("Private", new(vendor), read(t, vectors+"owner-Private-v1-2021.auth"), names...),
		b.set("Grüße", new(vendor), bytes.Repeat([]byte{7}, 1000), names[:2]...),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	exported := b.export()
	store, err := flash.Parse(exported.VariableStore)
	if err != nil || len(store.Variables) != int(exported.VariableCount) {
		t.Fatal(store, err)
	}

	m := ovmf.Start(t, exported.VariableStore)
	for _, v := range store.Variables {
		if a, data, err := m.GetVariable(v.Name, v.Vendor); err != nil || a != v.Attributes || !bytes.Equal(data, v.Data) {
			t.Errorf("%s is %d bytes of %s in the guest, and was exported with %d of %s: %v", v.Key, len(data), a, len(v.Data), v.Attributes, err)
		}
	}
	for name, want := range map[string]byte{"SecureBoot": 1, "SetupMode": 0} {
		if _, data, err := m.GetVariable(name, efi.GlobalVariable); err != nil || !bytes.Equal(data, []byte{want}) {
			t.Errorf("%s is %x, %v", name, data, err)
		}
	}
	private := services.Key{Vendor: efi.MustGUID(string(vendor)), Name: "Private"}
	all := efi.NonVolatile | efi.BootServiceAccess | efi.RuntimeAccess | efi.TimeBasedAuthenticated
	if err := m.SetVariable(private.Name, private.Vendor, all, read(t, vectors+"stranger-Private-v2-2022.auth")); !errors.Is(err, efi.SecurityViolation) {
		t.Errorf("a stranger writes the private variable in the guest: %v", err)
	}
	if err := m.SetVariable(private.Name, private.Vendor, all, read(t, vectors+"owner-Private-v2-2022.auth")); err != nil {
		t.Errorf("its maker writes the private variable in the guest: %v", err)
	}
	there := map[services.Key]bool{}
	for k := (services.Key{}); ; there[k] = true {
		if k.Name, k.Vendor, err = m.GetNextVariableName(k.Name, k.Vendor); err != nil {
			break
		}
	}
	kept := map[services.Key]services.Variable{}
	for k := range there {
		if a, data, err := m.GetVariable(k.Name, k.Vendor); err != nil {
			t.Error(k, err)
		} else if a.Has(efi.NonVolatile) && k.Name != "certdb" { // which is told by what it says
			kept[k] = services.Variable{Attributes: a, Data: data}
		}
	}

	reply, err := b.importing(m.Flash())
	if err != nil || len(reply.ImportNote) != 0 || int(reply.VariableCount) != len(kept) {
		t.Fatalf("of %d variables %+v: %v", len(kept), reply, err)
	}
	for k, v := range kept {
		got, err := b.get(generated.VariableName(efi.EscapeName(k.Name)), new(generated.VendorGuid(k.Vendor.String())))
		if err != nil || efi.AttributesOf(got.Variable.VariableAttribute) != v.Attributes || !bytes.Equal(got.VariableData, v.Data) {
			t.Errorf("%s is %+v, and was %d bytes of %s: %v", k, got, len(v.Data), v.Attributes, err)
		}
	}
	status(t, b.set("Private", new(vendor), read(t, vectors+"stranger-Private-v2-2022.auth"), names...), "EFI_SECURITY_VIOLATION")
	status(t, b.set("Private", new(vendor), read(t, vectors+"owner-Private-v2-2022.auth"), names...), "EFI_SECURITY_VIOLATION") // its time stamp came back
}
