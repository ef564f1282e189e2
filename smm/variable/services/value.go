package services

import (
	"crypto/x509"

	"biosv/smm/variable/efi"
	"biosv/smm/variable/siglist"
)

// checkValue refuses what a defined variable cannot hold: a scalar of another size, or a signature database that is
// none (section 32.4.1). v is what a call brings, which an append adds.
func checkValue(k Key, r rule, v []byte) error {
	if r.size != 0 && len(v) != 0 && len(v) != r.size {
		return efi.Refuse(efi.InvalidParameter, "the value of %s has %d bytes, not %d", k, r.size, len(v))
	}
	if !signatureLists(k) {
		return nil
	}
	if _, err := siglist.Parse(v); err != nil {
		return efi.Refuse(efi.InvalidParameter, "the value of %s: %v", k, err)
	}
	return nil
}

// checkWhole refuses what a value cannot be as a whole. PK has "the format of a signature database …, with exactly one
// entry" (section 32.3.1); it is a certificate, since a signature by another kind of key could never be verified
// against it, and nobody would own the machine.
func checkWhole(k Key, v []byte) error {
	if k != keyPK {
		return nil
	}
	lists, err := siglist.Parse(v)
	if err != nil {
		return efi.Refuse(efi.InvalidParameter, "the value of PK: %v", err)
	}
	if n := siglist.Count(lists); n != 1 || len(lists) != 1 || lists[0].Type != siglist.X509 {
		return efi.Refuse(efi.InvalidParameter, "PK holds exactly one certificate, and not %d signatures in %d lists", n, len(lists))
	}
	if _, err := x509.ParseCertificate(lists[0].Signatures[0].Data); err != nil {
		return efi.Refuse(efi.InvalidParameter, "the certificate of PK: %v", err)
	}
	return nil
}

// appended gives a value with another added to it. Of signature databases "the driver shall not perform an append of
// EFI_SIGNATURE_DATA values that are already part of the existing variable value" (section 8.2.6, for
// EFI_IMAGE_SECURITY_DATABASE_GUID; edk2 does the same for KEK). The time stamp only goes forward: an append's
// applies "only … if the new TimeStamp value is later than the current timestamp".
func appended(k Key, old, v Variable) Variable {
	sum := old
	if v.TimeStamp.After(old.TimeStamp) {
		sum.TimeStamp = v.TimeStamp
	}
	add := v.Data
	if signatureLists(k) {
		there, err := siglist.Parse(old.Data)
		lists, err2 := siglist.Parse(v.Data)
		if err == nil && err2 == nil {
			add = siglist.Append(nil, siglist.Without(lists, there)...)
		}
	}
	sum.Data = append(old.Data[:len(old.Data):len(old.Data)], add...)
	return sum
}
