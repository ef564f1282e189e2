package services

import (
	"biosv/smm/variable/auth"
	"biosv/smm/variable/efi"
)

// SetVariable creates, changes, appends to or deletes a variable (section 8.2.3). data begins with an authentication
// descriptor where a has AT.
func (s *Services) SetVariable(k Key, a efi.Attributes, data []byte) error {
	if err := s.checkName(k); err != nil {
		return err
	}
	if err := checkAttributes(k, a); err != nil {
		return err
	}
	if most := s.Limits.Variable + auth.Overhead + auth.MaxCertData; uint64(len(data)) > most { // before it costs anything
		return efi.Refuse(efi.InvalidParameter, "%s was to be written with %d bytes; one variable, with what signs it, may take %d", k, len(data), most)
	}
	if err := checkPlatform(k); err != nil {
		return err
	}
	old, exists, err := s.State.Get(k)
	if err != nil {
		return err
	}
	if deletes(a, data) {
		return s.delete(k, old, exists && s.sees(old))
	}
	r, err := s.checkDefined(k, a)
	if err != nil {
		return err
	}
	if err := s.checkAgainst(k, a, old, exists); err != nil {
		return err
	}
	if r.writer == modeSwitch {
		return s.switchMode(k, data)
	}
	v := Variable{Attributes: a &^ efi.AppendWrite, Data: data}
	if a.Has(efi.TimeBasedAuthenticated) {
		if v, err = s.authenticate(k, a, data, old, exists); err != nil {
			return err
		}
	}
	return s.write(k, r, v, a.Has(efi.AppendWrite), old, exists)
}

// checkAttributes refuses combinations of bits that no variable has (sections 8.2.1 and 8.2.3). What the platform
// does not support comes before what is not valid, as section 8.2.4 asks of QueryVariableInfo, but for what must be
// EFI_INVALID_PARAMETER.
func checkAttributes(k Key, a efi.Attributes) error {
	switch {
	case a.Has(efi.TimeBasedAuthenticated | efi.EnhancedAuthenticated):
		// "If both … are set in a SetVariable() call, then the firmware must return EFI_INVALID_PARAMETER."
		return efi.Refuse(efi.InvalidParameter, "the attributes %s ask for two ways of authentication", a)
	case a&unsupported != 0 && policy(k):
		// "Secure Boot Policy Variable must be created with the EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS
		// attribute set … If the appropriate attribute bit is not set, then the firmware shall return
		// EFI_INVALID_PARAMETER."
		return efi.Refuse(efi.InvalidParameter, "%s is authenticated by time, and not with the attributes %s", k, a)
	case a&unsupported != 0:
		return errUnsupported(a)
	case a&^efi.Known != 0:
		return efi.Refuse(efi.InvalidParameter, "the attributes %s have reserved bits", a)
	case a.Has(efi.RuntimeAccess) && !a.Has(efi.BootServiceAccess):
		// "Attributes that have EFI_VARIABLE_RUNTIME_ACCESS set must also have EFI_VARIABLE_BOOTSERVICE_ACCESS set."
		return efi.Refuse(efi.InvalidParameter, "the attributes %s have RT without BS", a)
	case a.Has(efi.HardwareErrorRecord) && a&^efi.AppendWrite != nvBSRT|efi.HardwareErrorRecord:
		return efi.Refuse(efi.InvalidParameter, "the attributes %s are not those of a hardware error record, %s", a, nvBSRT|efi.HardwareErrorRecord)
	}
	return nil
}

// unsupported are the ways of authentication that this platform does not have. Firmware need not: "Firmware that
// implements the SetVariable() services and supports the EFI_VARIABLE_ENHANCED_AUTHENTICATED_ACCESS attribute shall …"
// (section 8.2.5), and 0x10 is reserved (section 8.2.1). Before it was, "EFI_VARIABLE_AUTHENTICATED_WRITE_ACCESS is
// deprecated and should not be used. Platforms should return EFI_UNSUPPORTED" (UEFI 2.8, section 8.2).
const unsupported = efi.EnhancedAuthenticated | efi.Reserved10

// errUnsupported is EFI_UNSUPPORTED: "This call is not supported by this platform" (section 8.2.3), and "The attribute
// is not supported on this platform" (section 8.2.4).
func errUnsupported(a efi.Attributes) error {
	if a&efi.Reserved10 != 0 {
		return efi.Refuse(efi.Unsupported, "authentication by counter is no longer in the specification; time-based is")
	}
	return efi.Refuse(efi.Unsupported, "enhanced authenticated variables are not supported; time-based ones are")
}

// deletes says whether a call deletes without a descriptor: "Setting a data variable with no access attributes causes
// it to be deleted", and so does a DataSize of zero "unless the EFI_VARIABLE_APPEND_WRITE,
// EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS, or EFI_VARIABLE_ENHANCED_AUTHENTICATED_WRITE_ACCESS attribute is
// set".
func deletes(a efi.Attributes, data []byte) bool {
	return a&bsRT == 0 || len(data) == 0 && a&(efi.AppendWrite|efi.TimeBasedAuthenticated) == 0
}

// delete deletes without a descriptor.
func (s *Services) delete(k Key, old Variable, visible bool) error {
	if !visible {
		return efi.Refuse(efi.NotFound, "there is no variable %s to delete", k)
	}
	if r, has, _ := ruleOf(k); has {
		if r.writer == modeSwitch {
			return efi.Refuse(efi.WriteProtected, "%s cannot be deleted", k)
		}
		if err := s.checkWriter(k, r); err != nil {
			return err
		}
	}
	switch {
	case old.Attributes.Has(efi.TimeBasedAuthenticated):
		// "An attempt to delete a variable created with the EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS attribute
		// for which the prescribed AuthInfo validation fails or when called using DataSize of zero will fail with an
		// EFI_SECURITY_VIOLATION status."
		return efi.Refuse(efi.SecurityViolation, "%s is authenticated: who deletes it signs an empty value", k)
	case s.Phase == Runtime && !old.Attributes.Has(efi.NonVolatile):
		return errVolatile(k)
	}
	return s.State.Delete(k)
}

func errVolatile(k Key) error {
	// "Variables that have runtime access but that are not nonvolatile are read-only data variables once
	// ExitBootServices() is performed."
	return efi.Refuse(efi.WriteProtected, "%s is volatile, and read-only since boot services ended", k)
}

// checkAgainst holds a call against the phase and what there is.
func (s *Services) checkAgainst(k Key, a efi.Attributes, old Variable, exists bool) error {
	if s.Phase == Runtime && !a.Has(efi.NonVolatile|efi.RuntimeAccess) {
		if exists && s.sees(old) && !old.Attributes.Has(efi.NonVolatile) {
			return errVolatile(k)
		}
		// "only variables that have EFI_VARIABLE_RUNTIME_ACCESS and EFI_VARIABLE_NON_VOLATILE set can be set"
		return efi.Refuse(efi.InvalidParameter, "since boot services ended, only variables with NV and RT can be set, and %s was to have %s", k, a)
	}
	if exists && old.Attributes != a&^efi.AppendWrite {
		// "If a preexisting variable is rewritten with different attributes, SetVariable() shall not modify the variable
		// and shall return EFI_INVALID_PARAMETER." (edk2 gives EFI_WRITE_PROTECTED where AT is what is missing.)
		return efi.Refuse(efi.InvalidParameter, "%s has the attributes %s, and a change keeps them; the call has %s", k, old.Attributes, a)
	}
	return nil
}

// write puts a value that was found good.
func (s *Services) write(k Key, r rule, v Variable, appends bool, old Variable, exists bool) error {
	if err := checkValue(k, r, v.Data); err != nil {
		return err
	}
	switch {
	case appends && len(v.Data) == 0 && !exists:
		// "If the variable does not exist and EFI_VARIABLE_APPEND_WRITE is set and the size is zero, the variable is
		// not created and EFI_SUCCESS is returned."
		return nil
	case appends && exists:
		v = appended(k, old, v)
	case len(v.Data) == 0: // a signed deletion
		if !exists {
			return efi.Refuse(efi.NotFound, "there is no variable %s to delete", k)
		}
		if err := s.State.Delete(k); err != nil {
			return err
		}
		return s.afterPolicyChange(k)
	}
	if err := checkWhole(k, v.Data); err != nil {
		return err
	}
	if err := s.checkSize(k, v); err != nil {
		return err
	}
	if err := s.State.Put(k, v); err != nil {
		return err
	}
	return s.afterPolicyChange(k)
}
