package variable_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
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
