package services

import (
	"bytes"

	"biosv/smm/variable/efi"
)

// What the specification leaves to the platform stands in this file: the switch of Secure Boot, what somebody who is
// physically present may do, and variables that edk2 keeps for itself.

var (
	// SecureBootEnable is where edk2 keeps whether Secure Boot is switched on; without it, it is on as soon as there
	// is a PK (gEfiSecureBootEnableDisableGuid).
	SecureBootEnable = Key{efi.MustGUID("f0a30bc7-af08-4556-99c4-001009c93a44"), "SecureBootEnable"}

	certDatabase = efi.MustGUID("d9bee56e-75dc-49d9-b4d7-b534210f637a") // gEfiCertDbGuid: certdb and certdbv
	customMode   = Key{efi.MustGUID("c076ec0c-7028-4399-a072-71ee5c448b9f"), "CustomMode"}
	vendorKeysNV = Key{efi.MustGUID("9073e4e0-60ec-4b6e-9903-4c223c260f3c"), "VendorKeysNv"}
)

// checkPlatform refuses to write what edk2 keeps for itself. It reads them of the flash when it starts, so a guest
// that could write them would be believed then: edk2 refuses them too, those of physical presence with
// EFI_SECURITY_VIOLATION (NeedPhysicallyPresent), those of its own with EFI_WRITE_PROTECTED.
func checkPlatform(k Key) error {
	switch {
	case k == SecureBootEnable, k == customMode:
		return efi.Refuse(efi.SecurityViolation, "%s is for those who are physically present; SetSecureBoot is in its place", k)
	case k.Vendor == certDatabase, k == vendorKeysNV:
		return efi.Refuse(efi.WriteProtected, "%s is the firmware's own", k)
	}
	return nil
}

// SecureBootEnabled says whether Secure Boot is switched on for the next start.
func (s *Services) SecureBootEnabled() (bool, error) {
	v, ok, err := s.State.Get(SecureBootEnable)
	return !ok || len(v.Data) == 1 && v.Data[0] == 1, err
}

// SecureBoot is the state of Secure Boot.
type SecureBoot struct {
	Current    bool // since the machine started last
	Enabled    bool // for its next start
	Mode       Mode
	VendorKeys bool
}

// SecureBoot tells the state of Secure Boot.
func (s *Services) SecureBoot() (b SecureBoot, err error) {
	if b.Current, err = s.flag(keySecureBoot); err != nil {
		return b, err
	}
	if b.Enabled, err = s.SecureBootEnabled(); err != nil {
		return b, err
	}
	if b.VendorKeys, err = s.flag(keyVendorKeys); err != nil {
		return b, err
	}
	b.Mode, err = s.Mode()
	return b, err
}

// EnableSecureBoot switches Secure Boot on or off from the next start on.
func (s *Services) EnableSecureBoot(on bool) error {
	v := Variable{Attributes: efi.NonVolatile | efi.BootServiceAccess, Data: []byte{0}}
	if on {
		v.Data[0] = 1
	}
	return s.State.Put(SecureBootEnable, v)
}

// Keys are signature databases to be enrolled; an empty one is left out, and its variable deleted.
type Keys struct {
	PK, KEK, DB, DBX, DBT, DBR []byte
	Vendor                     bool // they are the platform vendor's own default
}

// row is a database of keys.
type row struct {
	key   Key
	value *[]byte
}

func (k *Keys) rows() []row {
	return []row{{keyDBX, &k.DBX}, {keyDBT, &k.DBT}, {keyDBR, &k.DBR}, {keyDB, &k.DB}, {keyKEK, &k.KEK}, {keyPK, &k.PK}}
}

// Enroll replaces all keys without signatures, as somebody who is physically present can (section 32.3: "a secure
// platform-specific method"), and enters the mode that follows: with a PK user mode from setup mode and deployed mode
// from audit mode, and without one setup mode. stamp is the time of what changed: an update of it that was signed
// before then and is no append is refused from now on. A database that stays as it was keeps its own.
func (s *Services) Enroll(keys Keys, stamp efi.Time) error {
	mode, err := s.Mode()
	if err != nil {
		return err
	}
	for _, one := range keys.rows() {
		if len(*one.value) == 0 {
			if err := s.State.Delete(one.key); err != nil {
				return err
			}
			continue
		}
		if old, there, err := s.State.Get(one.key); err != nil {
			return err
		} else if there && bytes.Equal(old.Data, *one.value) {
			continue // it keeps its time stamp
		}
		v := Variable{Attributes: nvBSRTAT, Data: *one.value, TimeStamp: stamp}
		if err := checkValue(one.key, rule{}, v.Data); err != nil {
			return err
		}
		if err := checkWhole(one.key, v.Data); err != nil {
			return err
		}
		if err := s.checkSize(one.key, v); err != nil {
			return err
		}
		if err := s.State.Put(one.key, v); err != nil {
			return err
		}
	}
	switch {
	case len(keys.PK) == 0:
		mode = SetupMode
	case mode == AuditMode:
		mode = DeployedMode
	case mode == SetupMode:
		mode = UserMode
	}
	if err := s.enter(mode); err != nil {
		return err
	}
	return s.setFlag(keyVendorKeys, keys.Vendor)
}

// SetMode goes to a mode without a signature, as somebody who is physically present can: as software before the
// operating system can too, and from deployed back to user mode, which needs "a secure platform-specific method"
// (section 32.3). It does not enrol or clear a platform key but where audit mode does.
func (s *Services) SetMode(to Mode) error {
	mode, err := s.Mode()
	switch {
	case err != nil || mode == to:
		return err
	case mode == DeployedMode && to == UserMode:
		return s.enter(UserMode)
	case to == AuditMode:
		return s.switchMode(keyAuditMode, []byte{1})
	case to == DeployedMode:
		return s.switchMode(keyDeployedMode, []byte{1})
	case to == SetupMode:
		return efi.Refuse(efi.InvalidParameter, "setup mode is entered by deleting the platform key")
	}
	return efi.Refuse(efi.InvalidParameter, "%s mode is entered by enrolling a platform key", to)
}

// Keys gives the signature databases that are there.
func (s *Services) Keys() (k Keys, err error) {
	for _, one := range k.rows() {
		v, _, err := s.State.Get(one.key)
		if err != nil {
			return k, err
		}
		*one.value = v.Data
	}
	k.Vendor, err = s.flag(keyVendorKeys)
	return k, err
}

// Databases are the keys of the signature databases, PK first.
func Databases() []Key { return []Key{keyPK, keyKEK, keyDB, keyDBX, keyDBT, keyDBR} }

// Adopt takes a variable over as firmware made it, before it asked us: by no rule but the room that there is.
func (s *Services) Adopt(k Key, v Variable) error {
	if err := s.checkName(k); err != nil {
		return err
	}
	if err := s.checkSize(k, v); err != nil {
		return err
	}
	return s.State.Put(k, v)
}
