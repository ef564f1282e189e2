// Package efi has the words of the UEFI specification that variables are spoken of in: GUIDs, names, times,
// attributes and status codes, as they go over the wire and as people read them (UEFI 2.10, section 2.3.1 and
// appendices A and D). It knows no rule about variables; those are in package services.
//
// Every number is little-endian (section 1.9.1). Begin with [Error]: it is what a refused call gives, and it bears
// both what the guest gets and what the operator reads.
package efi

import (
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
)

// GUID is an EFI_GUID as it lies in memory: the first three fields are little-endian (appendix A).
type GUID [16]byte

// ParseGUID reads the registry format, such as 8be4df61-93ca-11d2-aa0d-00e098032b8c, in either case.
func ParseGUID(s string) (GUID, error) {
	u, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return GUID{}, fmt.Errorf("%q is no GUID: it has the form 8be4df61-93ca-11d2-aa0d-00e098032b8c", s)
	}
	return mix(GUID(u)), nil
}

// MustGUID is [ParseGUID] for constants.
func MustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

func (g GUID) String() string { return uuid.UUID(mix(g)).String() }

// mix turns the first three fields around.
func mix(g GUID) GUID {
	return GUID{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]}
}

// The vendor GUIDs that the specification gives names to.
var (
	GlobalVariable        = MustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c") // EFI_GLOBAL_VARIABLE, section 3.3
	ImageSecurityDatabase = MustGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f") // EFI_IMAGE_SECURITY_DATABASE_GUID, section 32.4.1
	HardwareErrorVariable = MustGUID("414e6bdd-e47b-47cc-b244-bb61020cf516") // EFI_HARDWARE_ERROR_VARIABLE, section 8.2
)

// Attributes are a variable's attributes (section 8.2.1).
type Attributes uint32

// The attributes.
const (
	NonVolatile            Attributes = 0x01 // NV
	BootServiceAccess      Attributes = 0x02 // BS
	RuntimeAccess          Attributes = 0x04 // RT
	HardwareErrorRecord    Attributes = 0x08 // HR
	Reserved10             Attributes = 0x10 // was EFI_VARIABLE_AUTHENTICATED_WRITE_ACCESS, by counter
	TimeBasedAuthenticated Attributes = 0x20 // AT
	AppendWrite            Attributes = 0x40
	EnhancedAuthenticated  Attributes = 0x80

	Known Attributes = 0xff // the bits that have a meaning, or had
)

var attributeNames = [...]string{"NV", "BS", "RT", "HR", "AW", "AT", "APPEND", "EA"}

func (a Attributes) String() string {
	s := ""
	for i, name := range attributeNames {
		if a&(1<<i) != 0 {
			s += "," + name
		}
	}
	if rest := a &^ Known; rest != 0 {
		s += fmt.Sprintf(",%#x", uint32(rest))
	}
	if s == "" {
		return "none"
	}
	return s[1:]
}

// Has says whether all of b are set.
func (a Attributes) Has(b Attributes) bool { return a&b == b }

// TimeSize is the size of an EFI_TIME in bytes.
const TimeSize = 16

// Time is an EFI_TIME as it lies in memory (section 8.3.1). It is kept as bytes, since a signature is over all of
// them.
type Time [TimeSize]byte

// NewTime makes a time of a date in GMT.
func NewTime(year, month, day, hour, minute, second int) (t Time) {
	binary.LittleEndian.PutUint16(t[:], uint16(year))
	t[2], t[3], t[4], t[5], t[6] = byte(month), byte(day), byte(hour), byte(minute), byte(second)
	return t
}

// IsStamp says whether the components that a time stamp leaves out are zero: Pad1, Nanosecond, TimeZone, Daylight
// and Pad2 (section 8.2.6, step 2).
func (t Time) IsStamp() bool { return [9]byte(t[7:]) == [9]byte{} }

// After says whether a time stamp is later than another.
func (t Time) After(u Time) bool {
	if a, b := binary.LittleEndian.Uint16(t[:]), binary.LittleEndian.Uint16(u[:]); a != b {
		return a > b
	}
	return string(t[2:7]) > string(u[2:7])
}

func (t Time) String() string {
	return fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", binary.LittleEndian.Uint16(t[:]), t[2], t[3], t[4], t[5], t[6])
}
