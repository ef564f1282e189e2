package variable

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
)

// keyOf reads a name and a vendor GUID of the contract; without one, it is that of the specification.
func keyOf(name generated.VariableName, vendor *generated.VendorGuid) (k services.Key, err error) {
	if k.Name, err = efi.UnescapeName(string(name)); err != nil {
		return k, fault.InvalidRequest(fault.InvalidValue, "Name", string(name), "%v", err)
	}
	if vendor != nil {
		if k.Vendor, err = efi.ParseGUID(string(*vendor)); err != nil {
			return k, fault.InvalidRequest(fault.InvalidValue, "VendorGuid", string(*vendor), "%v", err)
		}
		return k, nil
	}
	k.Vendor = efi.ImageSecurityDatabase
	if _, database := services.Defined(k); !database || strings.HasPrefix(k.Name, "OsRecovery") {
		k.Vendor = efi.GlobalVariable
	}
	return k, nil
}

func record(k services.Key, v services.Variable) *generated.VariableRecord {
	r := &generated.VariableRecord{
		Name: new(generated.VariableName(efi.EscapeName(k.Name))), VendorGuid: new(generated.VendorGuid(k.Vendor.String())),
		VariableAttribute: v.Attributes.Names(), DataSize: uint32(len(v.Data)),
	}
	if v.Attributes.Has(efi.TimeBasedAuthenticated) {
		r.TimeStamp = v.TimeStamp.String()
	}
	return r
}

// codes are the contract's codes for the statuses that refuse a request.
var codes = map[efi.Status]fault.Code{
	efi.InvalidParameter: fault.EfiInvalidParameter, efi.Unsupported: fault.EfiUnsupported, efi.WriteProtected: fault.EfiWriteProtected,
	efi.OutOfResources: fault.EfiOutOfResources, efi.SecurityViolation: fault.EfiSecurityViolation,
}

// refused makes a fault of what the services refuse.
func refused(err error) error {
	var e *efi.Error
	if !errors.As(err, &e) {
		return err
	}
	if e.Status == efi.NotFound {
		return fault.NotFound(fault.UnknownVariable, "Name", "", "%s.", sentence(e.Reason))
	}
	return fault.Uefi(codes[e.Status], e.Status.String(), "", "%s.", sentence(e.Reason))
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// change tells of a variable before and after; one that is not there is nil.
func changeOf(k services.Key, before, after *services.Variable) smm.Change {
	return smm.Change{Name: efi.EscapeName(k.String()), Old: told(before), New: told(after)}
}

// told is a value as the event log has it: whole where it is short, and else its size and digest.
func told(v *services.Variable) *string {
	const most = 64
	switch {
	case v == nil:
		return nil
	case len(v.Data) <= most:
		return new(fmt.Sprintf("%x", v.Data))
	}
	return new(fmt.Sprintf("%d bytes, SHA-256 %x", len(v.Data), sha256.Sum256(v.Data)))
}
