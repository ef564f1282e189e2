// Package services is the UEFI variable services: a transcription of UEFI 2.10, sections 8.2 (variable services), 3.3
// (globally defined variables) and 32.3 (secure boot modes), and nothing else. Whoever asks, a guest's firmware, its
// operating system or an operator over SOAP, asks the same code.
//
// [Services] works on a [State] in one transaction of whoever calls it: when a call gives an error, the caller
// throws the transaction away. Begin with [Services.SetVariable], in which the rules stand in the order in which
// they are judged.
//
// A refused call gives an [efi.Error]: the status that the guest gets, and the reason that the operator reads. Each
// rule cites its sentence. Where the specification leaves a choice, the choice and what edk2 does stand beside it; where
// OVMF answers the cases of testdata/cases.txt otherwise, testdata/differences.txt says so.
// What a platform may do on its own, such as enrolling keys when somebody is physically present, is in platform.go.
package services

import (
	"strings"

	"biosv/smm/variable/auth"
	"biosv/smm/variable/efi"
)

// Key is what a variable is known by.
type Key struct {
	Vendor efi.GUID
	Name   string // text of [efi.DecodeName]
}

// Bytes are a key's bytes in a store. Their order is that of [State.Scan].
func (k Key) Bytes() []byte { return append(k.Vendor[:len(k.Vendor):len(k.Vendor)], k.Name...) }

// KeyOf gives the key that has these bytes; they must be those of a key.
func KeyOf(b []byte) Key { return Key{Vendor: efi.GUID(b[:16]), Name: string(b[16:])} }

func (k Key) String() string { return k.Name + "-" + k.Vendor.String() }

// Variable is a variable's value and what is kept with it.
type Variable struct {
	Attributes efi.Attributes // without AppendWrite
	Data       []byte
	TimeStamp  efi.Time    // of an authenticated variable's last signed change
	Owner      *auth.Owner // of a private authenticated variable: who made it
}

// State is where variables are kept: a transaction of a store. What it gives is not changed; what it is given may be
// kept as it is. Its errors are those of the store, and a guest gets EFI_DEVICE_ERROR for them.
type State interface {
	Get(Key) (v Variable, ok bool, err error)
	Put(Key, Variable) error
	Delete(Key) error
	// Scan gives the variables whose keys come after one, in the order of [Key.Bytes], until fn returns false. The
	// zero key comes before all. Their data may be gone after the transaction.
	Scan(after Key, fn func(Key, Variable) bool) error
}

// Phase is when a call is made.
type Phase int

// The phases. Boot is before ExitBootServices returned with success, Runtime after it. A phase is never left for Boot
// but by a start of the machine.
const (
	Runtime Phase = iota // the zero value has fewer rights
	Boot
)

// Services are the variable services of one machine within one transaction.
type Services struct {
	State  State
	Phase  Phase
	Limits Limits
}

// GetVariable gives a variable (section 8.2.1). At [Runtime], one without RT "will not be visible to GetVariable() and
// will return an EFI_NOT_FOUND error". Whether it fits the guest's buffer is the door's matter.
func (s *Services) GetVariable(k Key) (Variable, error) {
	v, ok, err := s.visible(k)
	if err == nil && !ok {
		err = efi.Refuse(efi.NotFound, "there is no variable %s", k)
	}
	return v, err
}

// visible gives a variable that this phase can see.
func (s *Services) visible(k Key) (Variable, bool, error) {
	v, ok, err := s.State.Get(k)
	return v, ok && s.sees(v), err
}

func (s *Services) sees(v Variable) bool {
	return s.Phase == Boot || v.Attributes.Has(efi.RuntimeAccess)
}

// GetNextVariableName gives the variable after one; a key without a name is before the first, and its vendor is
// ignored (section 8.2.2). Variables come in the order of vendor and name, whatever is set in between. A key that is
// no visible variable is EFI_INVALID_PARAMETER, and EFI_NOT_FOUND is the end.
func (s *Services) GetNextVariableName(k Key) (next Key, err error) {
	if k.Name == "" {
		k = Key{}
	} else if _, ok, err := s.visible(k); err != nil {
		return next, err
	} else if !ok {
		return next, efi.Refuse(efi.InvalidParameter, "there is no variable %s that another could come after", k)
	}
	found := false
	err = s.State.Scan(k, func(k Key, v Variable) bool {
		if found = s.sees(v); found {
			next = k
		}
		return !found
	})
	if err == nil && !found {
		err = efi.Refuse(efi.NotFound, "there is no variable after %s", k)
	}
	return next, err
}

// Scan gives the variables after a key, which need not be one's, as far as this phase sees them, until fn returns false.
func (s *Services) Scan(after Key, fn func(Key, Variable) bool) error {
	return s.State.Scan(after, func(k Key, v Variable) bool { return !s.sees(v) || fn(k, v) })
}

// checkName refuses what no variable can be called (section 8.2.3: "VariableName must contain 1 or more characters").
func (s *Services) checkName(k Key) error {
	switch size := efi.NameSize(k.Name); {
	case k.Name == "":
		return efi.Refuse(efi.InvalidParameter, "the variable has no name")
	case strings.ContainsRune(k.Name, 0):
		return efi.Refuse(efi.InvalidParameter, "the name %q has a NULL in it", k.Name)
	case size > s.Limits.Name:
		return efi.Refuse(efi.InvalidParameter, "the name has %d bytes; %d are allowed", size, s.Limits.Name)
	}
	return nil
}
