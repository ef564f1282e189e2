package flash

import (
	"encoding/binary"
	"errors"

	"biosv/smm/variable/auth"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
)

// certdb is where edk2 keeps the digests by which private authenticated variables know their makers
// (SecurityPkg/Library/AuthVariableLib: AUTH_CERT_DB_DATA): a size, and for each a vendor, sizes, name and digest.
var certdb = services.Key{Vendor: certDatabase, Name: "certdb"}

const certdbAttributes = efi.NonVolatile | efi.BootServiceAccess | efi.RuntimeAccess | efi.TimeBasedAuthenticated

const certNode = 28 // bytes of an AUTH_CERT_DB_DATA before the name

// takeOwners moves what certdb says to the variables that it says it of.
func (s *Store) takeOwners() {
	owners := map[services.Key]auth.Owner{}
	kept := s.Variables[:0]
	for _, v := range s.Variables {
		if v.Key != certdb {
			kept = append(kept, v)
			continue
		}
		var err error
		if owners, err = parseOwners(v.Data); err != nil {
			s.note("certdb, which says who made private authenticated variables, %v: nobody can change those that it does not name", err)
		}
	}
	s.Variables = kept
	for i := range s.Variables {
		v := &s.Variables[i]
		if o, ok := owners[v.Key]; ok && v.Attributes.Has(efi.TimeBasedAuthenticated) {
			v.Owner = &o
		}
	}
}

// parseOwners reads certdb as far as it is well formed.
func parseOwners(b []byte) (map[services.Key]auth.Owner, error) {
	owners := map[services.Key]auth.Owner{}
	if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)) {
		return owners, errors.New("does not have the size that it says")
	}
	var odd error
	for b = b[4:]; len(b) > 0; {
		if len(b) < certNode {
			return owners, errors.New("ends within an entry")
		}
		size, name, data := binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:]), binary.LittleEndian.Uint32(b[24:])
		if uint64(size) > uint64(len(b)) || uint64(size) != certNode+2*uint64(name)+uint64(data) {
			return owners, errors.New("has an entry whose sizes do not fit")
		}
		text, err := efi.DecodeName(b[certNode : certNode+2*name])
		switch {
		case err != nil:
			odd = err
		case data != uint32(len(auth.Owner{})):
			odd = errors.New("has an entry with certificates in place of a digest, as older firmware wrote")
		default:
			owners[services.Key{Vendor: efi.GUID(b[:16]), Name: text}] = auth.Owner(b[certNode+2*name : size])
		}
		b = b[size:]
	}
	return owners, odd
}

// appendOwners gives certdb for variables; ok is false where none of them has an owner.
func appendOwners(variables []Variable) (db Variable, ok bool) {
	b := []byte{0, 0, 0, 0}
	for _, v := range variables {
		if v.Owner == nil {
			continue
		}
		name := efi.EncodeName(v.Name)
		b = append(b, v.Vendor[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(certNode+len(name)+len(v.Owner)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(name)/2))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(v.Owner)))
		b = append(append(b, name...), v.Owner[:]...)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	return Variable{Key: certdb, Variable: services.Variable{Attributes: certdbAttributes, Data: b}}, len(b) > 4
}
