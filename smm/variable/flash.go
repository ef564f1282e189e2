package variable

import (
	"fmt"

	"biosv/smm"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/flash"
	"biosv/smm/variable/services"
)

// Render gives the flash for a start of the domain's machine, with the domain's nonvolatile variables: firmware reads
// it before it asks us. What the services take always fits.
func (f *Function) Render(tx *smm.Tx) ([]byte, error) {
	s, err := f.Services(tx, services.Boot)
	if err != nil {
		return nil, err
	}
	var kept []flash.Variable
	if err := s.State.Scan(services.Key{}, func(k services.Key, v services.Variable) bool {
		if v.Attributes.Has(efi.NonVolatile) {
			kept = append(kept, flash.Variable{Key: k, Variable: v})
		}
		return true
	}); err != nil {
		return nil, err
	}
	return flash.Render(kept)
}

// Import puts the variables of a flash in place of the domain's, by no rule but the room that there is, and begins a
// boot with them. It gives what was left out or looks odd, for people. Modes of Secure Boot that the flash does not
// know are left: with a platform key it is user mode, and without setup mode.
func (f *Function) Import(tx *smm.Tx, file []byte) (notes []string, err error) {
	read, err := flash.Parse(file)
	if err != nil {
		return nil, err
	}
	s, err := f.Services(tx, services.Boot)
	if err != nil {
		return nil, err
	}
	var gone []services.Key
	if err := s.State.Scan(services.Key{}, func(k services.Key, _ services.Variable) bool {
		gone = append(gone, k)
		return true
	}); err != nil {
		return nil, err
	}
	for _, k := range gone {
		if err := s.State.Delete(k); err != nil {
			return nil, err
		}
	}
	notes = read.Notes
	for _, v := range read.Variables {
		switch {
		case !v.Attributes.Has(efi.NonVolatile):
			notes = append(notes, fmt.Sprintf("%s is volatile, and left out", v.Key))
			continue
		case v.Attributes&efi.Reserved10 != 0:
			notes = append(notes, fmt.Sprintf("%s is authenticated by counter, which is no longer in the specification: nobody can change it", v.Key))
		}
		if err := s.Adopt(v.Key, v.Variable); err != nil {
			return nil, fmt.Errorf("import %s: %w", v.Key, err)
		}
	}
	return notes, s.Start()
}
