// Package fault makes the contract's faults. It is the one table from a code, which programs read, to the
// Redfish message id that says the same (DSP0266 section 9.6; ids of the registry Base 1.19 where it has one,
// else of our own registry BiosV 1.0) and to the kind of fault that bears it.
//
// Every error that a caller of a Port sees is one of these. [Of] makes one of any other error.
package fault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hooklift/gowsdl/soap"

	"biosv/envelope/xmltext"
	"biosv/generated"
	"biosv/store"
)

// Code is what was wrong, for programs.
type Code string

// The codes.
const (
	MalformedXML       Code = "MalformedXml"
	SchemaViolation    Code = "SchemaViolation"
	InvalidValue       Code = "InvalidValue"
	DuplicateItem      Code = "DuplicateItem"
	InvalidCertificate Code = "InvalidCertificateRequest"

	AttributesRefused     Code = "AttributesRefused"
	UnknownAttribute      Code = "UnknownAttribute"
	ReadOnlyAttribute     Code = "ReadOnlyAttribute"
	HiddenAttribute       Code = "HiddenAttribute"
	ImmutableAttribute    Code = "ImmutableAttribute"
	ValueCount            Code = "ValueCount"
	ValueFormat           Code = "ValueFormat"
	ValueNotInList        Code = "ValueNotInList"
	ValueOutOfRange       Code = "ValueOutOfRange"
	ValueOffStep          Code = "ValueOffStep"
	ValueLength           Code = "ValueLength"
	ValuePattern          Code = "ValuePattern"
	ValueLimited          Code = "ValueLimitedByDependency"
	ApplyTimeNotSupported Code = "ApplyTimeNotSupported"

	UnknownAddress     Code = "UnknownAddress"
	UnknownDomain      Code = "UnknownDomain"
	UnknownOperator    Code = "UnknownOperator"
	NotPending         Code = "NotPending"
	NoSavedDefaults    Code = "NoSavedDefaults"
	PrivilegedOnly     Code = "PrivilegedDomainOnly"
	StaleVersion       Code = "StaleVersion"
	OperationUnderWay  Code = "OperationUnderWay"
	WrongPowerState    Code = "WrongPowerState"
	AlreadyExists      Code = "AlreadyExists"
	LastAdmin          Code = "LastAdmin"
	DomainNotOff       Code = "DomainNotOff"
	PrivilegedStays    Code = "PrivilegedDomainStays"
	StillAttached      Code = "StillAttached"
	NotAttached        Code = "NotAttached"
	CannotAttach       Code = "CannotAttach"
	RoleTooSmall       Code = "RoleTooSmall"
	NotAnOperator      Code = "NotAnOperator"
	OtherDomain        Code = "OtherDomain"
	NotForGuests       Code = "NotForGuests"
	WrongPassword      Code = "WrongAdministratorPassword"
	PasswordLockout    Code = "PasswordLockout"
	BadSignature       Code = "BadSignature"
	WrongKey           Code = "WrongKey"
	DamagedArchive     Code = "DamagedArchive"
	DamagedStore       Code = "DamagedVariableStore"
	TooLarge           Code = "TooLarge"
	TooMany            Code = "TooMany"
	NotOnThisHost      Code = "NotOnThisHost"
	NotByThisMachine   Code = "NotSupportedByMachine"
	StorageFull        Code = "StorageFull"
	ShuttingDown       Code = "ShuttingDown"
	Overloaded         Code = "Overloaded"
	TimedOut           Code = "TimedOut"
	TPMUnavailable     Code = "TpmUnavailable"
	MachineUnavailable Code = "MachineUnavailable"
	InternalError      Code = "Internal"

	UnknownVariable      Code = "UnknownVariable"
	UnknownBootOption    Code = "UnknownBootOption"
	UnknownImage         Code = "UnknownImage"
	UnknownFirmware      Code = "UnknownFirmware"
	KernelUnchecked      Code = "KernelUnchecked"
	EfiInvalidParameter  Code = "EfiInvalidParameter"
	EfiUnsupported       Code = "EfiUnsupported"
	EfiWriteProtected    Code = "EfiWriteProtected"
	EfiOutOfResources    Code = "EfiOutOfResources"
	EfiSecurityViolation Code = "EfiSecurityViolation"
)

// messageIDs is the table from codes to Redfish message ids. The codes of security.Problem stand in it too.
var messageIDs = map[Code]string{
	MalformedXML:       "BiosV.1.0.MalformedXml",
	SchemaViolation:    "BiosV.1.0.SchemaViolation",
	InvalidValue:       "Base.1.19.PropertyValueFormatError",
	DuplicateItem:      "Base.1.19.PropertyDuplicate",
	InvalidCertificate: "BiosV.1.0.InvalidCertificateRequest",

	AttributesRefused:     "BiosV.1.0.AttributesRefused",
	UnknownAttribute:      "Base.1.19.PropertyUnknown",
	ReadOnlyAttribute:     "Base.1.19.PropertyNotWritable",
	HiddenAttribute:       "Base.1.19.PropertyNotWritable",
	ImmutableAttribute:    "Base.1.19.PropertyNotWritable",
	ValueCount:            "Base.1.19.PropertyValueTypeError",
	ValueFormat:           "Base.1.19.PropertyValueTypeError",
	ValueNotInList:        "Base.1.19.PropertyValueNotInList",
	ValueOutOfRange:       "Base.1.19.PropertyValueOutOfRange",
	ValueOffStep:          "Base.1.19.PropertyValueIncorrect",
	ValueLength:           "Base.1.19.StringValueTooLong",
	ValuePattern:          "Base.1.19.PropertyValueFormatError",
	ValueLimited:          "Base.1.19.PropertyValueConflict",
	ApplyTimeNotSupported: "Base.1.19.PropertyValueNotInList",

	UnknownAddress:     "Base.1.19.InvalidURI",
	UnknownDomain:      "Base.1.19.ResourceNotFound",
	UnknownOperator:    "Base.1.19.ResourceNotFound",
	NotPending:         "Base.1.19.ResourceNotFound",
	NoSavedDefaults:    "Base.1.19.ResourceNotFound",
	PrivilegedOnly:     "BiosV.1.0.PrivilegedDomainOnly",
	StaleVersion:       "Base.1.19.PreconditionFailed",
	OperationUnderWay:  "Base.1.19.ResourceInUse",
	WrongPowerState:    "Base.1.19.ActionParameterValueConflict",
	AlreadyExists:      "Base.1.19.ResourceAlreadyExists",
	LastAdmin:          "Base.1.19.ResourceCannotBeDeleted",
	DomainNotOff:       "Base.1.19.ResourceCannotBeDeleted",
	PrivilegedStays:    "Base.1.19.ResourceCannotBeDeleted",
	StillAttached:      "Base.1.19.ResourceCannotBeDeleted",
	NotAttached:        "Base.1.19.ActionNotSupported",
	CannotAttach:       "Base.1.19.ActionNotSupported",
	RoleTooSmall:       "Base.1.19.InsufficientPrivilege",
	NotAnOperator:      "Base.1.19.InsufficientPrivilege",
	OtherDomain:        "Base.1.19.InsufficientPrivilege",
	NotForGuests:       "Base.1.19.InsufficientPrivilege",
	WrongPassword:      "BiosV.1.0.WrongAdministratorPassword",
	PasswordLockout:    "BiosV.1.0.PasswordLockout",
	BadSignature:       "BiosV.1.0.BadSignature",
	WrongKey:           "BiosV.1.0.WrongKey",
	DamagedArchive:     "BiosV.1.0.DamagedArchive",
	DamagedStore:       "BiosV.1.0.DamagedVariableStore",
	TooLarge:           "Base.1.19.PayloadTooLarge",
	TooMany:            "Base.1.19.CreateLimitReachedForResource",
	NotOnThisHost:      "Base.1.19.ResourceNotFound",
	NotByThisMachine:   "Base.1.19.ActionNotSupported",
	StorageFull:        "Base.1.19.InsufficientStorage",
	ShuttingDown:       "Base.1.19.ServiceShuttingDown",
	Overloaded:         "Base.1.19.ServiceTemporarilyUnavailable",
	TimedOut:           "Base.1.19.OperationTimeout",
	TPMUnavailable:     "BiosV.1.0.TpmUnavailable",
	MachineUnavailable: "Base.1.19.ServiceTemporarilyUnavailable",
	InternalError:      "Base.1.19.InternalError",

	UnknownVariable:      "Base.1.19.ResourceNotFound",
	UnknownBootOption:    "Base.1.19.ResourceNotFound",
	UnknownImage:         "Base.1.19.ResourceNotFound",
	UnknownFirmware:      "Base.1.19.ResourceNotFound",
	KernelUnchecked:      "Base.1.19.PropertyValueConflict",
	EfiInvalidParameter:  "Base.1.19.ActionParameterValueConflict",
	EfiUnsupported:       "Base.1.19.ActionParameterNotSupported",
	EfiWriteProtected:    "Base.1.19.PropertyNotWritable",
	EfiOutOfResources:    "Base.1.19.InsufficientStorage",
	EfiSecurityViolation: "BiosV.1.0.BadSignature",

	"CertificateMissing":      "Base.1.19.NoValidSession",
	"CertificateExpired":      "BiosV.1.0.CertificateExpired",
	"CertificateNotYetValid":  "BiosV.1.0.CertificateNotYetValid",
	"CertificateUntrusted":    "BiosV.1.0.CertificateUntrusted",
	"CertificateWeak":         "BiosV.1.0.CertificateWeak",
	"CertificateWrongPurpose": "BiosV.1.0.CertificateWrongPurpose",
	"CertificateNameless":     "BiosV.1.0.CertificateNameless",
}

// MessageID is the Redfish message id of a code.
func (c Code) MessageID() string { return messageIDs[c] }

// InvalidRequest says that a request is not what the contract allows; path is the element at fault and value
// what stood there.
func InvalidRequest(c Code, path, value, format string, args ...any) *generated.InvalidRequestFault {
	return &generated.InvalidRequestFault{Code: string(c), MessageId: c.MessageID(), Message: fmt.Sprintf(format, args...), ElementPath: path, RefusedValue: clip(value)}
}

// Refusal says why one attribute is refused; value is nil where it is secret.
func Refusal(c Code, name string, value []string, format string, args ...any) *generated.AttributeRefusal {
	r := &generated.AttributeRefusal{Name: clip(name), Code: string(c), MessageId: c.MessageID(), Message: fmt.Sprintf(format, args...)}
	for _, v := range value {
		r.RefusedValue = append(r.RefusedValue, clip(v))
	}
	return r
}

// InvalidAttribute says that attributes are refused, each for its reason, and that nothing was changed; path is
// the element of the first.
func InvalidAttribute(path string, refusals []*generated.AttributeRefusal) *generated.InvalidAttributeFault {
	return &generated.InvalidAttributeFault{
		Code: string(AttributesRefused), MessageId: AttributesRefused.MessageID(), ElementPath: path, Refusal: refusals,
		Message: fmt.Sprintf("No attribute was changed, since %d of those named cannot be set so. The first of them: %s", len(refusals), refusals[0].Message),
	}
}

// NotFound says that what a request names is not here.
func NotFound(c Code, path, value, format string, args ...any) *generated.NotFoundFault {
	return &generated.NotFoundFault{Code: string(c), MessageId: c.MessageID(), Message: fmt.Sprintf(format, args...), ElementPath: path, RefusedValue: clip(value)}
}

// Conflict says that the state does not allow a request now.
func Conflict(c Code, format string, args ...any) *generated.ConflictFault {
	return &generated.ConflictFault{Code: string(c), MessageId: c.MessageID(), Message: fmt.Sprintf(format, args...)}
}

// AccessDenied says that who asks may not.
func AccessDenied(c Code, subject, operation, rule, format string, args ...any) *generated.AccessDeniedFault {
	return &generated.AccessDeniedFault{Code: string(c), MessageId: c.MessageID(), Message: fmt.Sprintf(format, args...), Subject: subject, Operation: operation, Rule: rule}
}

// AuthenticationRequired says that a valid certificate is needed.
func AuthenticationRequired(c Code, format string, args ...any) *generated.AuthenticationRequiredFault {
	return &generated.AuthenticationRequiredFault{Code: string(c), MessageId: c.MessageID(), Message: fmt.Sprintf(format, args...)}
}

// Locked says that something is locked until a time.
func Locked(c Code, until time.Time, format string, args ...any) *generated.LockedFault {
	return &generated.LockedFault{Code: string(c), MessageId: c.MessageID(), Message: fmt.Sprintf(format, args...), LockedUntil: soap.CreateXsdDateTime(until.UTC(), true)}
}

// Integrity says that a signature or digest is not right.
func Integrity(c Code, path, format string, args ...any) *generated.IntegrityFault {
	return &generated.IntegrityFault{Code: string(c), MessageId: c.MessageID(), Message: fmt.Sprintf(format, args...), ElementPath: path}
}

// Uefi says that the variable services of UEFI refuse a request; status is the name of the EFI_STATUS that a guest
// would get.
func Uefi(c Code, status, path, format string, args ...any) *generated.UefiFault {
	return &generated.UefiFault{Code: string(c), MessageId: c.MessageID(), Message: fmt.Sprintf(format, args...), ElementPath: path, EfiStatus: status}
}

// LimitExceeded says that a limit would be exceeded.
func LimitExceeded(c Code, limit string, value uint64, format string, args ...any) *generated.LimitExceededFault {
	return &generated.LimitExceededFault{Code: string(c), MessageId: c.MessageID(), Message: fmt.Sprintf(format, args...), LimitName: limit, LimitValue: value}
}

// Unavailable says that something cannot be had now. retry is when to try again; 0 means that it does not help.
func Unavailable(c Code, retry time.Duration, format string, args ...any) *generated.UnavailableFault {
	return &generated.UnavailableFault{Code: string(c), MessageId: c.MessageID(), Message: fmt.Sprintf(format, args...), RetryAfterSeconds: uint32((retry + time.Second - 1) / time.Second)}
}

// Internal says that something failed that should not have, and nothing more than where to look it up.
func Internal(id string) *generated.InternalFault {
	return &generated.InternalFault{
		Code: string(InternalError), MessageId: InternalError.MessageID(), IncidentId: id,
		Message: "The service failed; its log tells more under the id " + id + ".",
	}
}

// Of gives the fault that tells a caller of any error: the fault in its chain, the fault for what reading
// bytes and keeping state can run into, or InternalFault with the request's id, in which case the caller of Of
// logs the error.
func Of(err error, id string) generated.Fault {
	var f generated.Fault
	var schema *xmltext.SchemaError
	var syntax *xmltext.SyntaxError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &schema):
		return ofSchema(schema)
	case errors.As(err, &syntax):
		return ofSyntax(syntax)
	case errors.Is(err, store.ErrFull):
		return Unavailable(StorageFull, time.Minute, "The disk that holds the state is full: nothing was changed. Reading goes on; make room, and changes work again.")
	case errors.Is(err, store.ErrClosed):
		return Unavailable(ShuttingDown, 5*time.Second, "The service is stopping: nothing was changed.")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Unavailable(TimedOut, time.Second, "The request was not carried out in its time.")
	}
	return Internal(id)
}

// ofSchema is for a document that its schema does not allow.
func ofSchema(e *xmltext.SchemaError) generated.Fault {
	f := InvalidRequest(SchemaViolation, e.Path, e.Value, "%s", e.Error())
	f.Line, f.Rule = uint32(e.Line), e.Rule
	return f
}

// ofSyntax is for a document that is not well formed, or too large.
func ofSyntax(e *xmltext.SyntaxError) generated.Fault {
	if e.Code == xmltext.LimitExceeded {
		f := LimitExceeded(TooLarge, e.Limit, uint64(e.Most), "%s", e.Error())
		f.ElementPath = e.Path
		return f
	}
	f := InvalidRequest(MalformedXML, e.Path, "", "%s", e.Error())
	f.Line, f.Rule = uint32(e.Line), e.Code
	return f
}

const clipLength = 256

// clip bounds a refused value in an answer.
func clip(s string) string {
	if len(s) <= clipLength {
		return s
	}
	r := []rune(s)
	if len(r) <= clipLength {
		return s
	}
	return string(r[:clipLength-1]) + "…"
}
