package services

import (
	"biosv/smm/variable/efi"
	"biosv/smm/variable/siglist"
)

// Mode is a secure boot mode (section 32.3, figure Secure Boot Modes).
type Mode string

// The modes, with what AuditMode and DeployedMode are in each.
const (
	SetupMode    Mode = "Setup"    // no PK; AuditMode can be set
	AuditMode    Mode = "Audit"    // no PK; neither can be set
	UserMode     Mode = "User"     // PK; both can be set
	DeployedMode Mode = "Deployed" // PK; neither can be set
)

// Mode gives the mode that the machine is in.
func (s *Services) Mode() (Mode, error) {
	setup, err := s.inSetup()
	if err != nil {
		return "", err
	}
	audit, err := s.flag(keyAuditMode)
	if err != nil {
		return "", err
	}
	deployed, err := s.flag(keyDeployedMode)
	switch {
	case err != nil:
		return "", err
	case setup && audit:
		return AuditMode, nil
	case setup:
		return SetupMode, nil
	case deployed:
		return DeployedMode, nil
	}
	return UserMode, nil
}

// inSetup says whether SetupMode is 1: "While no Platform Key is enrolled, the SetupMode variable shall be equal to
// 1". It is in setup and in audit mode.
func (s *Services) inSetup() (bool, error) {
	_, ok, err := s.State.Get(keyPK)
	return !ok, err
}

func (s *Services) flag(k Key) (bool, error) {
	v, _, err := s.State.Get(k)
	return len(v.Data) == 1 && v.Data[0] == 1, err
}

// setFlag puts a one-byte variable that only firmware writes.
func (s *Services) setFlag(k Key, on bool) error {
	value := byte(0)
	if on {
		value = 1
	}
	return s.State.Put(k, Variable{Attributes: bsRT, Data: []byte{value}})
}

// enter publishes a mode. Transitions take effect immediately, as is recommended; SecureBoot stays as it was when the
// machine started, "read-only and immutable" (section 3.3).
func (s *Services) enter(m Mode) error {
	for k, on := range map[Key]bool{keySetupMode: m == SetupMode || m == AuditMode, keyAuditMode: m == AuditMode, keyDeployedMode: m == DeployedMode} {
		if err := s.setFlag(k, on); err != nil {
			return err
		}
	}
	return nil
}

// switchMode writes AuditMode or DeployedMode, without authentication (sections 32.3.3 and 32.3.4).
func (s *Services) switchMode(k Key, data []byte) error {
	if len(data) != 1 || data[0] > 1 {
		return efi.Refuse(efi.InvalidParameter, "%s is one byte, 0 or 1: all other values are reserved", k)
	}
	if s.Phase == Runtime {
		return efi.Refuse(efi.WriteProtected, "%s is read-only since boot services ended", k)
	}
	mode, err := s.Mode()
	if err != nil {
		return err
	}
	if mode != UserMode && !(mode == SetupMode && k == keyAuditMode) {
		return efi.Refuse(efi.WriteProtected, "%s is read-only in %s mode", k, mode)
	}
	if data[0] == 0 {
		return nil // it is 0 wherever it can be written
	}
	if k == keyDeployedMode {
		return s.enter(DeployedMode)
	}
	// "Entering Audit Mode has the side effect of changing SetupMode == 1, PK is cleared, and the new DeployedMode == 0."
	if mode == UserMode {
		if err := s.State.Delete(keyPK); err != nil {
			return err
		}
	}
	return s.enter(AuditMode)
}

// afterPolicyChange does what a change of a Secure Boot Policy Variable brings with it.
func (s *Services) afterPolicyChange(k Key) error {
	if !policy(k) {
		return nil
	}
	was, err := s.flag(keySetupMode)
	if err != nil {
		return err
	}
	if was {
		// Nobody's signature was asked for, so somebody else than the vendor may have done it.
		if err := s.setFlag(keyVendorKeys, false); err != nil {
			return err
		}
	}
	if k != keyPK {
		return nil
	}
	mode, err := s.Mode()
	if err != nil {
		return err
	}
	audit, err := s.flag(keyAuditMode)
	switch {
	case err != nil:
		return err
	case mode == UserMode && audit:
		// "To enter Deployed Mode from Audit Mode, set the variable PK."
		mode = DeployedMode
	}
	// "a successful enrollment of a Platform Key shall cause the platform to immediately transition to user mode";
	// "When the platform key is cleared, the global variable SetupMode must also be updated to 1."
	return s.enter(mode)
}

// supported are the signature types of SignatureSupport, in the order of section 32.4.1.
var supported = []efi.GUID{
	siglist.SHA256, siglist.RSA2048, siglist.RSA2048SHA256, siglist.SHA1, siglist.RSA2048SHA1, siglist.X509,
	siglist.SHA224, siglist.SHA384, siglist.SHA512, siglist.X509SHA256, siglist.X509SHA384, siglist.X509SHA512,
}

// Start begins a boot: volatile variables are gone, and those that firmware makes at each start are there. Modes are
// kept; SecureBoot is 1 in user and deployed mode where the platform has it switched on (section 3.3: "determined by
// platform policy but must be 0 if the platform is in Setup Mode or Audit Mode").
func (s *Services) Start() error {
	mode, err := s.Mode()
	if err != nil {
		return err
	}
	vendor, known, err := s.State.Get(keyVendorKeys)
	if err != nil {
		return err
	}
	var gone []Key
	if err := s.State.Scan(Key{}, func(k Key, v Variable) bool {
		if !v.Attributes.Has(efi.NonVolatile) {
			gone = append(gone, k)
		}
		return true
	}); err != nil {
		return err
	}
	for _, k := range gone {
		if err := s.State.Delete(k); err != nil {
			return err
		}
	}
	if err := s.enter(mode); err != nil {
		return err
	}
	on, err := s.SecureBootEnabled()
	if err != nil {
		return err
	}
	if err := s.setFlag(keySecureBoot, on && (mode == UserMode || mode == DeployedMode)); err != nil {
		return err
	}
	// "A value of 0 indicates that someone other than the platform vendor or a holder of the vendor-provided keys has
	// modified the Secure Boot Policy Variables. Otherwise, the value will be 1."
	if err := s.setFlag(keyVendorKeys, !known || len(vendor.Data) == 1 && vendor.Data[0] == 1); err != nil {
		return err
	}
	var types []byte
	for _, t := range supported {
		types = append(types, t[:]...)
	}
	return s.State.Put(keySupport, Variable{Attributes: bsRT, Data: types})
}
