package frame

import "fmt"

// Status is an EFI_STATUS (UEFI 2.10, appendix D) without the highest bit, which says that it is an error. It is the
// error that a UEFI service ends with; Success never is one.
type Status uint32

// The statuses of the variable services (UEFI 2.10, 8.2).
const (
	Success           Status = 0
	InvalidParameter  Status = 2
	Unsupported       Status = 3
	BufferTooSmall    Status = 5
	DeviceError       Status = 7
	WriteProtected    Status = 8
	OutOfResources    Status = 9
	NotFound          Status = 14
	SecurityViolation Status = 26
)

var statuses = map[Status]string{
	Success: "EFI_SUCCESS", InvalidParameter: "EFI_INVALID_PARAMETER", Unsupported: "EFI_UNSUPPORTED",
	BufferTooSmall: "EFI_BUFFER_TOO_SMALL", DeviceError: "EFI_DEVICE_ERROR", WriteProtected: "EFI_WRITE_PROTECTED",
	OutOfResources: "EFI_OUT_OF_RESOURCES", NotFound: "EFI_NOT_FOUND", SecurityViolation: "EFI_SECURITY_VIOLATION",
}

// Error is the status's name.
func (s Status) Error() string {
	if name := statuses[s]; name != "" {
		return name
	}
	return fmt.Sprintf("EFI_STATUS %d", uint32(s))
}
