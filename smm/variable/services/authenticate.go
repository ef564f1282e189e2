package services

import (
	"crypto/x509"

	"biosv/smm/variable/auth"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/siglist"
)

// authenticate does what section 8.2.6 asks of firmware, in its steps, and gives the new value with its time stamp.
// "If any of the checks fails, firmware must return EFI_SECURITY_VIOLATION."
func (s *Services) authenticate(k Key, a efi.Attributes, data []byte, old Variable, exists bool) (v Variable, err error) {
	d, value, err := auth.Parse(data) // 1, and the first half of 2
	if err != nil {
		return v, err
	}
	if exists && !a.Has(efi.AppendWrite) && !d.TimeStamp.After(old.TimeStamp) {
		// 2. "Unless the EFI_VARIABLE_APPEND_WRITE attribute is set, verify that the TimeStamp value is later than the
		// current timestamp value associated with the variable."
		return v, efi.Refuse(efi.SecurityViolation, "the time stamp %s is not later than %s, which %s has", d.TimeStamp, old.TimeStamp, k)
	}
	v = Variable{Attributes: a &^ efi.AppendWrite, Data: value, TimeStamp: d.TimeStamp, Owner: old.Owner}
	setup := false
	if policy(k) {
		if setup, err = s.inSetup(); err != nil {
			return v, err
		}
	}
	if setup && len(d.CertData) == 0 {
		// Where no signature counts, none need be there: "While SetupMode == 1, the platform firmware shall not require
		// authentication" (section 32.3). efitools and edk2's own setup menus send an empty CertData then; step 1 read
		// to the letter would refuse them.
		return v, nil
	}
	signed, err := auth.ParseSignedData(d.CertData) // 1
	if err != nil {
		return v, err
	}
	if setup {
		// 3. "If the variable SetupMode==1, and the variable is a secure boot policy variable, then the firmware
		// implementation shall consider the checks in the following steps 4 and 5 to have passed". (Older versions of edk2
		// ask that a new PK is signed by itself.)
		return v, nil
	}
	if err := signed.Verify(auth.Message(k.Name, k.Vendor, a, d.TimeStamp, value)); err != nil { // 4
		return v, err
	}
	if policy(k) { // 5
		return v, s.checkSigner(k, signed)
	}
	return v, private(k, signed, &v, old, exists)
}

// checkSigner asks whether the signer may write a Secure Boot Policy Variable (section 8.2.6, step 5).
func (s *Services) checkSigner(k Key, signed *auth.SignedData) error {
	pk, err := s.certificates(keyPK)
	if err != nil {
		return err
	}
	if len(pk) == 1 && signed.MadeWith(pk[0]) {
		return nil
	}
	var chains []Key
	switch {
	case k == keyPK || k == keyKEK:
		return efi.Refuse(efi.SecurityViolation, "%s must be signed with the platform key, and %q is another", k, signed.Signer.Subject)
	case recovery(k):
		chains = []Key{keyDBR, keyKEK}
	default:
		chains = []Key{keyKEK}
	}
	for _, db := range chains {
		trusted, err := s.certificates(db)
		if err != nil {
			return err
		}
		if signed.ChainsTo(trusted) {
			return nil
		}
	}
	return efi.Refuse(efi.SecurityViolation, "%s must be signed by a certificate that chains to one in %s, or with the platform key; %q does not", k, names(chains), signed.Signer.Subject)
}

func names(keys []Key) string {
	s := keys[0].Name
	for _, k := range keys[1:] {
		s += " or " + k.Name
	}
	return s
}

// certificates gives those of a signature database; none where it is not there.
func (s *Services) certificates(k Key) ([]*x509.Certificate, error) {
	v, _, err := s.State.Get(k)
	if err != nil {
		return nil, err
	}
	lists, err := siglist.Parse(v.Data)
	if err != nil {
		return nil, efi.Refuse(efi.SecurityViolation, "%s as it is kept: %v", k, err)
	}
	return siglist.Certificates(lists), nil
}

// private holds a Private Authenticated Variable to who made it (section 8.2.6, step 5).
func private(k Key, signed *auth.SignedData, v *Variable, old Variable, exists bool) error {
	if !exists {
		owner, err := signed.Owner()
		v.Owner = &owner
		return err
	}
	if old.Owner == nil {
		return efi.Refuse(efi.SecurityViolation, "it is not known who made %s: nobody can change it", k)
	}
	by, err := signed.IsBy(*old.Owner)
	if err == nil && !by {
		err = efi.Refuse(efi.SecurityViolation, "%s was made by another signer than %q", k, signed.Signer.Subject)
	}
	return err
}
