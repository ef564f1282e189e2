package services

import (
	"strings"

	"biosv/smm/variable/efi"
)

// The attributes of the globally defined variables (section 3.3, table 3.1).
const (
	bsRT     = efi.BootServiceAccess | efi.RuntimeAccess
	nvBSRT   = efi.NonVolatile | bsRT
	nvBSRTAT = nvBSRT | efi.TimeBasedAuthenticated
)

// hand is who may write a variable.
type hand int

const (
	anybody    hand = iota
	firmware        // "only modified by firmware and … read-only to the OS"
	nobody          // "Should be treated as read-only"
	modeSwitch      // AuditMode and DeployedMode, which secure boot modes make read-only (section 32.3)
)

// rule is a row of table 3.1. size is that of the value where section 3.3 gives it a type, else 0.
type rule struct {
	attributes efi.Attributes
	writer     hand
	size       int
}

// globals are the variables of EFI_GLOBAL_VARIABLE. #### stands for four hexadecimal digits.
var globals = map[string]rule{
	"AuditMode":                  {bsRT, modeSwitch, 1},
	"Boot####":                   {nvBSRT, anybody, 0},
	"BootCurrent":                {bsRT, anybody, 2},
	"BootNext":                   {nvBSRT, anybody, 2},
	"BootOrder":                  {nvBSRT, anybody, 0},
	"BootOptionSupport":          {bsRT, nobody, 4},
	"ConIn":                      {nvBSRT, anybody, 0},
	"ConInDev":                   {bsRT, anybody, 0},
	"ConOut":                     {nvBSRT, anybody, 0},
	"ConOutDev":                  {bsRT, anybody, 0},
	"CryptoIndications":          {nvBSRT, anybody, 0},
	"CryptoIndicationsSupported": {bsRT, firmware, 0},
	"CryptoIndicationsActivated": {bsRT, firmware, 0},
	"dbDefault":                  {bsRT, nobody, 0},
	"dbrDefault":                 {bsRT, nobody, 0},
	"dbtDefault":                 {bsRT, nobody, 0},
	"dbxDefault":                 {bsRT, nobody, 0},
	"DeployedMode":               {bsRT, modeSwitch, 1},
	"Driver####":                 {nvBSRT, anybody, 0},
	"DriverOrder":                {nvBSRT, anybody, 0},
	"ErrOut":                     {nvBSRT, anybody, 0},
	"ErrOutDev":                  {bsRT, anybody, 0},
	"HwErrRecSupport":            {nvBSRT, firmware, 2},
	"KEK":                        {nvBSRTAT, anybody, 0},
	"KEKDefault":                 {bsRT, nobody, 0},
	"Key####":                    {nvBSRT, anybody, 0},
	"Lang":                       {nvBSRT, anybody, 0},
	"LangCodes":                  {bsRT, firmware, 0},
	"OsIndications":              {nvBSRT, anybody, 8},
	"OsIndicationsSupported":     {bsRT, firmware, 8},
	"OsRecoveryOrder":            {nvBSRTAT, anybody, 0},
	"PK":                         {nvBSRTAT, anybody, 0},
	"PKDefault":                  {bsRT, nobody, 0},
	"PlatformLang":               {nvBSRT, anybody, 0},
	"PlatformLangCodes":          {bsRT, firmware, 0},
	"PlatformRecovery####":       {bsRT, firmware, 0},
	"SecureBoot":                 {bsRT, nobody, 1},
	"SetupMode":                  {bsRT, nobody, 1},
	"SignatureSupport":           {bsRT, nobody, 0},
	"SysPrep####":                {nvBSRT, anybody, 0},
	"SysPrepOrder":               {nvBSRT, anybody, 0},
	"Timeout":                    {nvBSRT, anybody, 2},
	"VendorKeys":                 {bsRT, nobody, 1},
}

// recoveries are the names that are defined under every vendor (section 3.4.1).
var recoveries = map[string]rule{"OsRecovery####": {nvBSRTAT, anybody, 0}}

// databases are the variables of EFI_IMAGE_SECURITY_DATABASE_GUID (section 32.4.1).
var databases = map[string]rule{
	"db": {nvBSRTAT, anybody, 0}, "dbx": {nvBSRTAT, anybody, 0}, "dbt": {nvBSRTAT, anybody, 0}, "dbr": {nvBSRTAT, anybody, 0},
}

// records are the variables of EFI_HARDWARE_ERROR_VARIABLE (section 8.2, Hardware Error Record Variables).
var records = map[string]rule{"HwErrRec####": {nvBSRT | efi.HardwareErrorRecord, anybody, 0}}

// defined are the vendor GUIDs of the specification: "Implementations must only permit the creation of variables with
// a UEFI Specification-defined VendorGuid when these variables are documented in the UEFI Specification" (section 3.3).
var defined = map[efi.GUID]map[string]rule{
	efi.GlobalVariable: globals, efi.ImageSecurityDatabase: databases, efi.HardwareErrorVariable: records,
}

// pattern puts #### in place of four upper-case hexadecimal digits at the end of a name.
func pattern(name string) string {
	if len(name) < 5 {
		return name
	}
	at := len(name) - 4
	if strings.Trim(name[at:], "0123456789ABCDEF") != "" {
		return name
	}
	return name[:at] + "####"
}

// ruleOf gives the row that a variable has in the specification, and whether it may be there at all.
func ruleOf(k Key) (r rule, has, may bool) {
	if r, has = recoveries[pattern(k.Name)]; has {
		return r, true, true
	}
	rows, ours := defined[k.Vendor]
	if !ours {
		return rule{}, false, true
	}
	if r, has = rows[k.Name]; !has {
		r, has = rows[pattern(k.Name)]
	}
	return r, has, has
}

// Defined gives the attributes that the specification defines for a variable.
func Defined(k Key) (efi.Attributes, bool) {
	r, has, _ := ruleOf(k)
	return r.attributes, has
}

// checkDefined holds a new or changed value against the specification's row, if it has one.
func (s *Services) checkDefined(k Key, a efi.Attributes) (rule, error) {
	r, has, may := ruleOf(k)
	a &^= efi.AppendWrite
	switch {
	case !may:
		return r, efi.Refuse(efi.InvalidParameter, "%s is no variable that the UEFI specification documents under its vendor GUID", k)
	case !has && a.Has(efi.HardwareErrorRecord):
		// "VariableName and VendorGuid must comply with the rules stated in Hardware Error Record Variables"
		return r, efi.Refuse(efi.InvalidParameter, "%s is no hardware error record: those are HwErrRec#### of vendor %s", k, efi.HardwareErrorVariable)
	case !has:
		return r, nil
	case r.attributes != a:
		return r, efi.Refuse(efi.InvalidParameter, "%s has the attributes %s, not %s", k, r.attributes, a)
	}
	return r, s.checkWriter(k, r)
}

// checkWriter refuses to write or delete what is read-only.
func (s *Services) checkWriter(k Key, r rule) error {
	switch {
	case r.writer == nobody:
		return efi.Refuse(efi.WriteProtected, "%s is read-only", k)
	case r.writer == firmware && s.Phase == Runtime:
		return efi.Refuse(efi.WriteProtected, "%s is written by firmware, and read-only to the operating system", k)
	}
	return nil
}

// The names of the variables that the rules speak of.
var (
	keyPK           = Key{efi.GlobalVariable, "PK"}
	keyKEK          = Key{efi.GlobalVariable, "KEK"}
	keyRecovery     = Key{efi.GlobalVariable, "OsRecoveryOrder"}
	keyDB           = Key{efi.ImageSecurityDatabase, "db"}
	keyDBX          = Key{efi.ImageSecurityDatabase, "dbx"}
	keyDBT          = Key{efi.ImageSecurityDatabase, "dbt"}
	keyDBR          = Key{efi.ImageSecurityDatabase, "dbr"}
	keyAuditMode    = Key{efi.GlobalVariable, "AuditMode"}
	keyDeployedMode = Key{efi.GlobalVariable, "DeployedMode"}
	keySetupMode    = Key{efi.GlobalVariable, "SetupMode"}
	keySecureBoot   = Key{efi.GlobalVariable, "SecureBoot"}
	keyVendorKeys   = Key{efi.GlobalVariable, "VendorKeys"}
	keySupport      = Key{efi.GlobalVariable, "SignatureSupport"}
)

// policy says whether a variable is a Secure Boot Policy Variable (section 3.3).
func policy(k Key) bool {
	return k == keyPK || k == keyKEK || k.Vendor == efi.ImageSecurityDatabase || recovery(k)
}

func recovery(k Key) bool { return k == keyRecovery || pattern(k.Name) == "OsRecovery####" }

// signatureLists says whether a variable's value is a signature database.
func signatureLists(k Key) bool {
	return k == keyPK || k == keyKEK || k.Vendor == efi.ImageSecurityDatabase
}
