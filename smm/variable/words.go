package variable

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
)

// attributeNames are the contract's names of attributes, in the order of their bits.
var attributeNames = []struct {
	name generated.VariableAttribute
	bit  efi.Attributes
}{
	{generated.VariableAttributeNonVolatile, efi.NonVolatile},
	{generated.VariableAttributeBootServiceAccess, efi.BootServiceAccess},
	{generated.VariableAttributeRuntimeAccess, efi.RuntimeAccess},
	{generated.VariableAttributeHardwareErrorRecord, efi.HardwareErrorRecord},
	{generated.VariableAttributeTimeBasedAuthenticated, efi.TimeBasedAuthenticated},
	{generated.VariableAttributeAppendWrite, efi.AppendWrite},
}

func attributesOf(names []*generated.VariableAttribute) (a efi.Attributes) {
	for _, n := range names {
		for _, known := range attributeNames {
			if known.name == *n {
				a |= known.bit
			}
		}
	}
	return a
}

func namesOf(a efi.Attributes) (names []*generated.VariableAttribute) {
	for _, known := range attributeNames {
		if a.Has(known.bit) {
			names = append(names, new(known.name))
		}
	}
	return names
}

// keyOf reads a name and a vendor GUID of the contract; without one, it is that of the specification.
func keyOf(name generated.VariableName, vendor *generated.VendorGuid) (k services.Key, err error) {
	if k.Name, err = unescape(string(name)); err != nil {
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
		Name: new(generated.VariableName(escape(k.Name))), VendorGuid: new(generated.VendorGuid(k.Vendor.String())),
		VariableAttribute: namesOf(v.Attributes), DataSize: uint32(len(v.Data)),
	}
	if v.Attributes.Has(efi.TimeBasedAuthenticated) {
		r.TimeStamp = v.TimeStamp.String()
	}
	return r
}

// escape writes a name as XML can hold it: a UTF-16 code unit that it cannot as \uXXXX, and a backslash as two. Half a
// surrogate pair is three bytes of no valid UTF-8 in a name ([efi.DecodeName]).
func escape(name string) string {
	var b strings.Builder
	for s := name; s != ""; {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1 && len(s) >= 3:
			r, size = rune(s[0]&0x0f)<<12|rune(s[1]&0x3f)<<6|rune(s[2]&0x3f), 3
			fallthrough
		case r < ' ', r == 0xfffe, r == 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case r == '\\':
			b.WriteString(`\\`)
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return b.String()
}

// unescape reads what [escape] wrote.
func unescape(text string) (string, error) {
	var units []uint16
	for s := text; s != ""; {
		if s[0] != '\\' {
			r, size := utf8.DecodeRuneInString(s)
			units = utf16.AppendRune(units, r)
			s = s[size:]
			continue
		}
		switch {
		case strings.HasPrefix(s, `\\`):
			units = append(units, '\\')
			s = s[2:]
		case len(s) >= 6 && s[1] == 'u':
			u, err := strconv.ParseUint(s[2:6], 16, 16)
			if err != nil {
				return "", fmt.Errorf("%q in a name is no backslash, u and four hexadecimal digits", s[:6])
			}
			units = append(units, uint16(u))
			s = s[6:]
		default:
			return "", fmt.Errorf("a backslash in a name is written as two, and a code unit as a backslash, u and four hexadecimal digits")
		}
	}
	raw := make([]byte, 0, 2*len(units))
	for _, u := range units {
		raw = append(raw, byte(u), byte(u>>8))
	}
	return efi.DecodeName(raw)
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
	return smm.Change{Name: escape(k.String()), Old: told(before), New: told(after)}
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
