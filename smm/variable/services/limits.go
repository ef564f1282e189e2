package services

import "biosv/smm/variable/efi"

// Limits are what a machine's storage holds, in bytes. They are no rule of the specification, which leaves them to
// the platform.
type Limits struct {
	Name          int    // of a name, without its NULL
	Variable      uint64 // of one variable with its overhead and without its name
	NonVolatile   uint64 // of all NV variables that are no hardware error records
	Volatile      uint64 // of all others that are not NV
	HardwareError uint64 // of all hardware error records
}

// Overhead is what a variable takes besides name and data: an AUTHENTICATED_VARIABLE_HEADER of edk2, so that what
// fits here fits the flash that is rendered from it.
const Overhead = 60

// Size is what a variable takes of the storage: header, name with its NULL, and data, to whole words.
func Size(k Key, v Variable) uint64 {
	return (Overhead + uint64(efi.NameSize(k.Name)) + 2 + uint64(len(v.Data)) + 3) &^ 3
}

// cost is what a variable takes of the storage with all that is kept for it: of a private authenticated one, edk2
// keeps the owner in certdb, in an entry of 28 bytes, name and digest.
func cost(k Key, v Variable) uint64 {
	n := Size(k, v)
	if v.Owner != nil {
		n += 28 + uint64(efi.NameSize(k.Name)+len(v.Owner))
	}
	return n
}

// class is which storage a variable takes room of.
func class(a efi.Attributes) efi.Attributes { return a & (efi.NonVolatile | efi.HardwareErrorRecord) }

func (l Limits) of(a efi.Attributes) uint64 {
	switch {
	case a.Has(efi.HardwareErrorRecord):
		return l.HardwareError
	case a.Has(efi.NonVolatile):
		return l.NonVolatile
	}
	return l.Volatile
}

// used is how much of a storage is taken by all variables but one.
func (s *Services) used(a efi.Attributes, but Key) (n uint64, err error) {
	err = s.State.Scan(Key{}, func(k Key, v Variable) bool {
		if class(v.Attributes) == class(a) && k != but {
			n += cost(k, v)
		}
		return true
	})
	return n, err
}

// checkSize refuses a variable that is too large ("the DataSize exceeds the maximum allowed", EFI_INVALID_PARAMETER)
// or for which there is no room (EFI_OUT_OF_RESOURCES; section 8.2.3).
func (s *Services) checkSize(k Key, v Variable) error {
	if size := Overhead + uint64(len(v.Data)); size > s.Limits.Variable {
		return efi.Refuse(efi.InvalidParameter, "%s would take %d bytes; one variable may take %d", k, size, s.Limits.Variable)
	}
	used, err := s.used(v.Attributes, k)
	if err != nil {
		return err
	}
	if most := s.Limits.of(v.Attributes); used+cost(k, v) > most {
		return efi.Refuse(efi.OutOfResources, "%s would take %d bytes, and of the storage's %d bytes the others take %d", k, cost(k, v), most, used)
	}
	return nil
}

// Info is what [Services.QueryVariableInfo] gives, in bytes.
type Info struct {
	MaximumStorage, RemainingStorage, MaximumVariable uint64
}

// QueryVariableInfo says how much room there is for variables with these attributes (section 8.2.4). Append is
// ignored. Attributes that the platform does not support are EFI_UNSUPPORTED, also where the combination is not valid
// either; at [Runtime] those of boot services are EFI_INVALID_PARAMETER.
func (s *Services) QueryVariableInfo(a efi.Attributes) (Info, error) {
	a &^= efi.AppendWrite
	if a&unsupported != 0 {
		// "If a call to QueryVariableInfo() specifies a combination of both unsupported and invalid attributes,
		// EFI_UNSUPPORTED should be returned."
		return Info{}, errUnsupported(a)
	}
	if err := checkAttributes(Key{}, a); err != nil {
		return Info{}, err
	}
	switch {
	case a&(efi.BootServiceAccess|efi.RuntimeAccess) == 0:
		return Info{}, efi.Refuse(efi.InvalidParameter, "the attributes %s give nobody access", a)
	case s.Phase == Runtime && !a.Has(efi.RuntimeAccess):
		return Info{}, efi.Refuse(efi.InvalidParameter, "the attributes %s are of boot services, which have ended", a)
	}
	used, err := s.used(a, Key{})
	if err != nil {
		return Info{}, err
	}
	i := Info{MaximumStorage: s.Limits.of(a), MaximumVariable: s.Limits.Variable}
	i.RemainingStorage = i.MaximumStorage - min(used, i.MaximumStorage)
	i.MaximumVariable = min(i.MaximumVariable, i.MaximumStorage)
	return i, nil
}
