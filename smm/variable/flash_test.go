package variable_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"biosv/generated"
	"biosv/smm"
	"biosv/smm/variable/auth"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/flash"
	"biosv/smm/variable/services"
)

func debian(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("/usr/share/OVMF/" + name)
	if err != nil {
		t.Fatalf("%v (Debian package ovmf)", err)
	}
	return b
}

// within runs fn in a change of the domain.
func (b *bench) within(fn func(*smm.Tx) error) {
	b.Helper()
	if err := b.ChangeBeside(b.Context(), b.call, "Start", fn); err != nil {
		b.Fatal(err)
	}
}

func TestAStoreIsImportedAndRenderedWithoutLoss(t *testing.T) {
	t.Parallel()
	for file, mode := range map[string]generated.SecureBootMode{
		"OVMF_VARS_4M.fd": generated.SecureBootModeSetupMode, "OVMF_VARS_4M.ms.fd": generated.SecureBootModeUserMode, "OVMF_VARS_4M.snakeoil.fd": generated.SecureBootModeUserMode,
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if err := b.set("Timeout", nil, []byte{9, 0}); err != nil { // which the import takes away, or replaces
				t.Fatal(err)
			}
			var rendered []byte
			b.within(func(tx *smm.Tx) (err error) {
				notes, err := b.f.Import(tx, debian(t, file))
				if err != nil || len(notes) != 0 {
					return fmt.Errorf("%q: %w", notes, err)
				}
				rendered, err = b.f.Render(tx)
				return err
			})
			want, err := flash.Parse(debian(t, file))
			if err != nil {
				t.Fatal(err)
			}
			got, err := flash.Parse(rendered)
			if err != nil {
				t.Fatal(err)
			}
			byKey := func(s *flash.Store) map[services.Key]services.Variable {
				m := map[services.Key]services.Variable{}
				for _, v := range s.Variables {
					m[v.Key] = v.Variable
				}
				return m
			}
			if d := cmp.Diff(byKey(want), byKey(got)); d != "" {
				t.Error(d)
			}
			if s := b.secureBoot(); *s.SecureBootMode != mode || (*s.SecureBootCurrentBoot == generated.SecureBootSwitchOn) != (mode == generated.SecureBootModeUserMode) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// importing imports a flash by the contract, with a machine that is off.
func (b *bench) importing(file []byte) (*generated.ImportVariablesReply, error) {
	b.Fake("demo").Be(generated.PowerStateOff)
	return b.f.ImportVariables(b.Context(), b.call, &generated.ImportVariablesRequest{VariableStore: file})
}

func (b *bench) export() *generated.ExportVariablesReply {
	b.Helper()
	reply, err := b.f.ExportVariables(b.Context(), b.call, &generated.ExportVariablesRequest{})
	if err != nil {
		b.Fatal(err)
	}
	return reply
}

func TestWhatIsExportedIsImportedAsItWas(t *testing.T) {
	t.Parallel()
	from, to := newBench(t), newBench(t)
	from.enroll(&generated.EnrollSecureBootKeysRequest{SecureBootKeySet: new(generated.SecureBootKeySetMicrosoft)})
	private := generated.VariableName("Private")
	at := []generated.VariableAttribute{generated.VariableAttributeNonVolatile, generated.VariableAttributeBootServiceAccess, generated.VariableAttributeRuntimeAccess, generated.VariableAttributeTimeBasedAuthenticated}
	for _, err := range []error{
		from.set(private, new(vendor), read(t, vectors+"owner-Private-v1-2021.auth"), at...),
		from.set("Gone", new(vendor), []byte{1}, at[1]), // volatile
		to.set("Timeout", nil, []byte{9, 0}),            // is replaced
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	exported := from.export()
	version := to.Version("demo")
	reply, err := to.importing(exported.VariableStore)
	if err != nil || reply.VariableCount != exported.VariableCount || len(reply.ImportNote) != 0 || *reply.Version != version+1 {
		t.Fatal(reply, err)
	}
	if again := to.export(); !bytes.Equal(again.VariableStore, exported.VariableStore) {
		t.Error("what was imported is exported otherwise")
	}
	if s := to.secureBoot(); *s.SecureBootMode != generated.SecureBootModeUserMode || *s.SecureBootCurrentBoot != generated.SecureBootSwitchOn {
		t.Errorf("%+v", s)
	}
	for _, gone := range []generated.VariableName{"Gone", "Timeout"} {
		var missing *generated.NotFoundFault
		if _, err := to.get(gone, map[bool]*generated.VendorGuid{true: new(vendor)}[gone == "Gone"]); !errors.As(err, &missing) {
			t.Errorf("%s: %v", gone, err)
		}
	}
	// Its time stamp and its maker came along.
	status(t, to.set(private, new(vendor), read(t, vectors+"owner-Private-v1-2021.auth"), at...), "EFI_SECURITY_VIOLATION")
	status(t, to.set(private, new(vendor), read(t, vectors+"stranger-Private-v2-2022.auth"), at...), "EFI_SECURITY_VIOLATION")
	if err := to.set(private, new(vendor), read(t, vectors+"owner-Private-v2-2022.auth"), at...); err != nil {
		t.Error(err)
	}
	told := map[string]bool{}
	for _, e := range to.Events("demo") {
		for _, c := range e.Change {
			told[e.MessageId+" "+strings.SplitN(c.Name, "-", 2)[0]] = true
		}
	}
	for _, want := range []string{"Timeout", "PK", "db", "Private", "SetupMode"} {
		if !told["BiosV.1.0.VariablesImported "+want] {
			t.Errorf("nothing is told of %s: %v", want, told)
		}
	}
}

func TestImportIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.set("Timeout", nil, []byte{9, 0}); err != nil {
		t.Fatal(err)
	}
	before := b.export()
	good := debian(t, "OVMF_VARS_4M.ms.fd")
	big, err := flash.Render([]flash.Variable{{
		Key:      services.Key{Vendor: efi.MustGUID(string(vendor)), Name: "Big"},
		Variable: services.Variable{Attributes: efi.NonVolatile | efi.BootServiceAccess, Data: make([]byte, 70_000)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	damaged, conflict := new(*generated.IntegrityFault), new(*generated.ConflictFault)
	_, err = b.importing(good[:100_000])
	if !errors.As(err, damaged) || (*damaged).Code != "DamagedVariableStore" || !strings.Contains((*damaged).Message, "truncated") {
		t.Errorf("a damaged store: %v", err)
	}
	large := new(*generated.LimitExceededFault)
	if _, err := b.importing(make([]byte, flash.MaxSize+1)); !errors.As(err, large) || (*large).Code != "TooLarge" {
		t.Errorf("one that is too large: %v", err)
	}
	_, err = b.importing(big)
	status(t, err, "EFI_INVALID_PARAMETER")
	b.Fake("demo").Be(generated.PowerStateOff)
	_, err = b.f.ImportVariables(t.Context(), b.call, &generated.ImportVariablesRequest{VariableStore: good, Version: new(*before.Version + 1)})
	if !errors.As(err, conflict) || (*conflict).Code != "StaleVersion" {
		t.Errorf("another version: %v", err)
	}
	for _, state := range []generated.PowerState{generated.PowerStateOn, generated.PowerStatePoweringOn, generated.PowerStatePaused} {
		b.Fake("demo").Be(state)
		_, err := b.f.ImportVariables(t.Context(), b.call, &generated.ImportVariablesRequest{VariableStore: good})
		if !errors.As(err, conflict) || (*conflict).Code != "WrongPowerState" {
			t.Errorf("while it is %s: %v", state, err)
		}
	}
	if after := b.export(); !bytes.Equal(after.VariableStore, before.VariableStore) {
		t.Error("something changed")
	}
}

// What firmware would make of an interrupted write is made of it here, and told: the old value of a variable that was
// being replaced is there, and the new one that was never written to its end is not.
func TestImportTellsWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	one := func(data string) flash.Variable {
		return flash.Variable{Key: services.Key{Vendor: efi.MustGUID(string(vendor)), Name: "Torn"}, Variable: services.Variable{Attributes: efi.NonVolatile | efi.BootServiceAccess, Data: []byte(data)}}
	}
	counter := one("counted")
	counter.Name, counter.Attributes = "Counted", counter.Attributes|efi.Reserved10
	file, err := flash.Render([]flash.Variable{one("old!"), one("new!"), counter})
	if err != nil {
		t.Fatal(err)
	}
	const state, old, next = 2, 100, 60 + 10 + 4 + 2   // where the state is in a header, the first variable, and the next behind it
	file[old+state], file[old+next+state] = 0x3e, 0x7f // in-deleted-transition, and header-valid-only
	reply, err := b.importing(file)
	if err != nil || reply.VariableCount != 2 || len(reply.ImportNote) != 2 || !strings.Contains(reply.ImportNote[0], "was never written to its end") ||
		!strings.Contains(reply.ImportNote[1], "is authenticated by counter") {
		t.Fatalf("%+v: %v", reply, err)
	}
	if got, err := b.get("Torn", new(vendor)); err != nil || string(got.VariableData) != "old!" {
		t.Errorf("%+v: %v", got, err)
	}
}

func TestADamagedStoreIsNotImported(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.set("Timeout", nil, []byte{9, 0}); err != nil {
		t.Fatal(err)
	}
	err := b.ChangeBeside(t.Context(), b.call, "Import", func(tx *smm.Tx) error {
		_, err := b.f.Import(tx, debian(t, "OVMF_VARS_4M.ms.fd")[:100_000])
		return err
	})
	if err == nil {
		t.Error("it was taken")
	}
	if _, err := b.get("Timeout", nil); err != nil {
		t.Error(err)
	}
}

// What the services take fits the flash, whatever it is made of: many small variables that each have an owner, or few
// large ones, and hardware error records beside them.
func TestWhatTheServicesTakeFitsTheFlash(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size  int
		owner *auth.Owner
	}{"small, with owners": {300, &auth.Owner{1}}, "small": {400, nil}, "large": {20_000, nil}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.within(func(tx *smm.Tx) error {
				s, err := b.f.Services(tx, services.Boot)
				if err != nil {
					return err
				}
				fill := func(vendor efi.GUID, format string, v services.Variable) error {
					v.Data = bytes.Repeat([]byte{1}, c.size)
					for i := 0; ; i++ {
						if err := s.Adopt(services.Key{Vendor: vendor, Name: fmt.Sprintf(format, i)}, v); errors.Is(err, efi.OutOfResources) {
							return nil
						} else if err != nil {
							return err
						}
					}
				}
				nv := efi.NonVolatile | efi.BootServiceAccess | efi.RuntimeAccess
				if err := fill(efi.MustGUID(string(vendor)), "V%04d", services.Variable{Attributes: nv | efi.TimeBasedAuthenticated, Owner: c.owner}); err != nil {
					return err
				}
				if err := fill(efi.HardwareErrorVariable, "HwErrRec%04X", services.Variable{Attributes: nv | efi.HardwareErrorRecord}); err != nil {
					return err
				}
				file, err := b.f.Render(tx)
				if err != nil {
					return err
				}
				if _, err := flash.Parse(file); err != nil {
					return err
				}
				return nil
			})
		})
	}
}
