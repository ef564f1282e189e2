package efi

import (
	"errors"
	"fmt"
)

// Status is an EFI_STATUS of a 64-bit firmware (appendix D). As an error it is a bare status; what calls give is
// [Error], for which errors.Is with a Status holds.
type Status uint64

const failed Status = 1 << 63

// The status codes that variable services give (sections 8.2.1 to 8.2.4).
const (
	Success           Status = 0
	InvalidParameter         = failed | 2
	Unsupported              = failed | 3
	BufferTooSmall           = failed | 5
	DeviceError              = failed | 7
	WriteProtected           = failed | 8
	OutOfResources           = failed | 9
	NotFound                 = failed | 14
	SecurityViolation        = failed | 26
)

var statusNames = map[Status]string{
	Success: "EFI_SUCCESS", InvalidParameter: "EFI_INVALID_PARAMETER", Unsupported: "EFI_UNSUPPORTED", BufferTooSmall: "EFI_BUFFER_TOO_SMALL",
	DeviceError: "EFI_DEVICE_ERROR", WriteProtected: "EFI_WRITE_PROTECTED", OutOfResources: "EFI_OUT_OF_RESOURCES", NotFound: "EFI_NOT_FOUND",
	SecurityViolation: "EFI_SECURITY_VIOLATION",
}

func (s Status) String() string {
	if name, ok := statusNames[s]; ok {
		return name
	}
	return fmt.Sprintf("EFI_STATUS %#x", uint64(s))
}

// ParseStatus gives the status that has a name.
func ParseStatus(name string) (Status, bool) {
	for s, n := range statusNames {
		if n == name {
			return s, true
		}
	}
	return 0, false
}

// Code is the status without the bit that says whether it is an error, as the thin virtual BIOS is told it.
func (s Status) Code() uint32 { return uint32(s &^ failed) }

func (s Status) Error() string { return s.String() }

// Error is a refused call: the status that the guest gets, and the reason that the operator reads.
type Error struct {
	Status Status
	Reason string
}

func (e *Error) Error() string { return e.Status.String() + ": " + e.Reason }

// Unwrap gives the status.
func (e *Error) Unwrap() error { return e.Status }

// Refuse makes an [Error].
func Refuse(s Status, format string, args ...any) error {
	return &Error{Status: s, Reason: fmt.Sprintf(format, args...)}
}

// StatusOf gives the status that a guest gets for an error: EFI_DEVICE_ERROR for one that bears none, such as a
// store that cannot be written.
func StatusOf(err error) Status {
	var s Status
	switch {
	case err == nil:
		return Success
	case errors.As(err, &s):
		return s
	}
	return DeviceError
}
