package variable

import (
	"biosv/smm"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
)

// For functions that work with globally defined variables (UEFI 2.10, section 3.3) in transactions of their own: the
// services by the same rules as [Function.GetVariable], [Function.ListVariables] and [Function.SetVariable].

// Global gives the value of a variable, nil where there is none.
func (f *Function) Global(tx *smm.Tx, name string) ([]byte, error) {
	s, err := f.Services(tx, phase(tx.Call))
	if err != nil {
		return nil, err
	}
	v, err := s.GetVariable(global(name))
	if efi.StatusOf(err) == efi.NotFound {
		return nil, nil
	}
	return v.Data, refused(err)
}

// Globals gives all variables that there are, in the order of their names.
func (f *Function) Globals(tx *smm.Tx, fn func(name string, value []byte)) error {
	s, err := f.Services(tx, phase(tx.Call))
	if err != nil {
		return err
	}
	return s.Scan(services.Key{Vendor: efi.GlobalVariable}, func(k services.Key, v services.Variable) bool {
		ours := k.Vendor == efi.GlobalVariable
		if ours {
			fn(k.Name, v.Data)
		}
		return ours
	})
}

// SetGlobal writes a variable; without a value it deletes it, if there is one. It tells of nothing.
func (f *Function) SetGlobal(tx *smm.Tx, name string, value []byte) error {
	s, err := f.Services(tx, phase(tx.Call))
	if err != nil {
		return err
	}
	k := global(name)
	a, err := presumed(s, k)
	if err != nil {
		return err
	}
	if err := s.SetVariable(k, a, value); len(value) > 0 || efi.StatusOf(err) != efi.NotFound {
		return refused(err)
	}
	return nil
}

func global(name string) services.Key { return services.Key{Vendor: efi.GlobalVariable, Name: name} }
