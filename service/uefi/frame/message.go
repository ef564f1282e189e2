package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"

	"github.com/google/uuid"
)

const (
	// NameMost is how many UTF-16 code units a variable's name has at most.
	NameMost = 511
	// DataMost is how many bytes of data GetVariable's answer has room for.
	DataMost = BodyMost - 12
	// ResetDataMost is how many bytes of its data ResetSystem reports at most.
	ResetDataMost = 1024
)

var (
	// ErrMessage says that a body is not what its kind has.
	ErrMessage = errors.New("the message is malformed")
	// ErrName says that a message is well-formed, but no variable can have the name in it: it is too long, or no UTF-16.
	ErrName = errors.New("no variable can have this name")
)

// Request is what the guest says: one of *HelloRequest, *GetVariableRequest, *GetNextVariableNameRequest,
// *SetVariableRequest, *QueryVariableInfoRequest, *ExitBootServicesRequest, *ResetSystemRequest and
// *CheckVariableRequest.
type Request interface {
	Kind() Kind
	body(*fields)
}

// Answer is what the other side says: one of *HelloAnswer, *GetVariableAnswer, *GetNextVariableNameAnswer,
// *QueryVariableInfoAnswer, *CheckVariableAnswer, *StatusAnswer for the other requests, and *RefusalAnswer.
type Answer interface{ body(*fields) }

// HelloRequest begins. It names the versions that the sender speaks.
type HelloRequest struct{ Lowest, Highest uint16 }

// HelloAnswer is EFI_UNSUPPORTED where no version is spoken by both.
type HelloAnswer struct {
	Status  Status
	Version uint16
	Session uint32 // what requests have to carry from now on; not 0
}

// GetVariableRequest is UEFI 2.10, 8.2.1.
type GetVariableRequest struct {
	Vendor uuid.UUID
	Room   uint32 // of the buffer, in bytes
	Name   string
}

// GetVariableAnswer has Attributes and Size for EFI_SUCCESS and EFI_BUFFER_TOO_SMALL, Data for the former.
type GetVariableAnswer struct {
	Status     Status
	Attributes uint32
	Size       uint32 // of the variable's data, in bytes
	Data       []byte
}

// GetNextVariableNameRequest is UEFI 2.10, 8.2.2. An empty name asks for the first.
type GetNextVariableNameRequest struct {
	Vendor uuid.UUID
	Room   uint32 // for the name, in bytes, the zero at its end included
	Name   string
}

// GetNextVariableNameAnswer has Size for EFI_SUCCESS and EFI_BUFFER_TOO_SMALL, the rest for the former.
type GetNextVariableNameAnswer struct {
	Status Status
	Size   uint32 // of the name, in bytes, the zero at its end included
	Vendor uuid.UUID
	Name   string
}

// SetVariableRequest is UEFI 2.10, 8.2.3.
type SetVariableRequest struct {
	Vendor     uuid.UUID
	Attributes uint32
	Name       string
	Data       []byte
}

// QueryVariableInfoRequest is UEFI 2.10, 8.2.4.
type QueryVariableInfoRequest struct{ Attributes uint32 }

// QueryVariableInfoAnswer gives bytes, for EFI_SUCCESS.
type QueryVariableInfoAnswer struct {
	Status                      Status
	Maximum, Remaining, Largest uint64
}

// ExitBootServicesRequest says that the operating system has taken over.
type ExitBootServicesRequest struct{}

// ResetSystemRequest says that the machine is about to be reset through the runtime service (UEFI 2.10, 8.5.1).
type ResetSystemRequest struct {
	Type   uint32 // EFI_RESET_TYPE
	Status Status // why
	Data   []byte
}

// CheckVariableRequest asks as GetVariable does, for a sender that may have the data.
type CheckVariableRequest struct {
	Vendor uuid.UUID
	Room   uint32 // of the buffer, in bytes
	Name   string
}

// CheckVariableAnswer is GetVariable's without the data.
type CheckVariableAnswer struct {
	Status     Status
	Attributes uint32
	Size       uint32 // of the variable's data, in bytes
	Check      uint32 // CRC-32 of the data, for EFI_SUCCESS
}

// StatusAnswer answers what has no other result.
type StatusAnswer struct{ Status Status }

// RefusalAnswer answers a request that was not acted upon.
type RefusalAnswer struct{ Reason Reason }

// Reason is why a request was not acted upon.
type Reason uint32

// The reasons.
const (
	UnknownSession Reason = 1 // say Hello
	OldSequence    Reason = 2 // the number is behind one that was used, or was used for another request
	NotUnderstood  Reason = 3 // no such request, or it is malformed
)

// Kind is Hello.
func (*HelloRequest) Kind() Kind { return Hello }

// Kind is GetVariable.
func (*GetVariableRequest) Kind() Kind { return GetVariable }

// Kind is GetNextVariableName.
func (*GetNextVariableNameRequest) Kind() Kind { return GetNextVariableName }

// Kind is SetVariable.
func (*SetVariableRequest) Kind() Kind { return SetVariable }

// Kind is QueryVariableInfo.
func (*QueryVariableInfoRequest) Kind() Kind { return QueryVariableInfo }

// Kind is ExitBootServices.
func (*ExitBootServicesRequest) Kind() Kind { return ExitBootServices }

// Kind is ResetSystem.
func (*ResetSystemRequest) Kind() Kind { return ResetSystem }

// Kind is CheckVariable.
func (*CheckVariableRequest) Kind() Kind { return CheckVariable }

func (r *HelloRequest) body(f *fields) {
	f.u16(&r.Lowest)
	f.u16(&r.Highest)
}

func (a *HelloAnswer) body(f *fields) {
	f.u32((*uint32)(&a.Status))
	f.u16(&a.Version)
	f.zero()
	f.u32(&a.Session)
}

func (r *GetVariableRequest) body(f *fields) {
	f.guid(&r.Vendor)
	f.u32(&r.Room)
	f.nameToEnd(&r.Name)
}

func (a *GetVariableAnswer) body(f *fields) {
	f.u32((*uint32)(&a.Status))
	f.u32(&a.Attributes)
	f.u32(&a.Size)
	f.toEnd(&a.Data, DataMost)
}

func (r *GetNextVariableNameRequest) body(f *fields) {
	f.guid(&r.Vendor)
	f.u32(&r.Room)
	f.nameToEnd(&r.Name)
}

func (a *GetNextVariableNameAnswer) body(f *fields) {
	f.u32((*uint32)(&a.Status))
	f.u32(&a.Size)
	f.guid(&a.Vendor)
	f.nameToEnd(&a.Name)
}

func (r *SetVariableRequest) body(f *fields) {
	f.guid(&r.Vendor)
	f.u32(&r.Attributes)
	f.nameWithSize(&r.Name)
	f.toEnd(&r.Data, BodyMost)
}

func (r *QueryVariableInfoRequest) body(f *fields) { f.u32(&r.Attributes) }

func (a *QueryVariableInfoAnswer) body(f *fields) {
	f.u32((*uint32)(&a.Status))
	f.u64(&a.Maximum)
	f.u64(&a.Remaining)
	f.u64(&a.Largest)
}

func (*ExitBootServicesRequest) body(*fields) {}

func (r *ResetSystemRequest) body(f *fields) {
	f.u32(&r.Type)
	f.u32((*uint32)(&r.Status))
	f.toEnd(&r.Data, ResetDataMost)
}

func (r *CheckVariableRequest) body(f *fields) { (*GetVariableRequest)(r).body(f) }

func (a *CheckVariableAnswer) body(f *fields) {
	f.u32((*uint32)(&a.Status))
	f.u32(&a.Attributes)
	f.u32(&a.Size)
	f.u32(&a.Check)
}

func (a *StatusAnswer) body(f *fields)  { f.u32((*uint32)(&a.Status)) }
func (a *RefusalAnswer) body(f *fields) { f.u32((*uint32)(&a.Reason)) }

// ParseRequest reads the request of a kind from a frame's body, which it does not keep. With ErrName the request is
// given as well, without the name.
func ParseRequest(kind Kind, body []byte) (Request, error) {
	var r Request
	switch kind {
	case Hello:
		r = &HelloRequest{}
	case GetVariable:
		r = &GetVariableRequest{}
	case GetNextVariableName:
		r = &GetNextVariableNameRequest{}
	case SetVariable:
		r = &SetVariableRequest{}
	case QueryVariableInfo:
		r = &QueryVariableInfoRequest{}
	case ExitBootServices:
		r = &ExitBootServicesRequest{}
	case ResetSystem:
		r = &ResetSystemRequest{}
	case CheckVariable:
		r = &CheckVariableRequest{}
	default:
		return nil, fmt.Errorf("%w: %s is no request", ErrMessage, kind)
	}
	err := parse(kind, body, r)
	if err != nil && !errors.Is(err, ErrName) {
		return nil, err
	}
	return r, err
}

// ParseAnswer reads the answer of a kind from a frame's body.
func ParseAnswer(kind Kind, body []byte) (Answer, error) {
	var a Answer
	switch kind {
	case Hello.Answer():
		a = &HelloAnswer{}
	case GetVariable.Answer():
		a = &GetVariableAnswer{}
	case GetNextVariableName.Answer():
		a = &GetNextVariableNameAnswer{}
	case QueryVariableInfo.Answer():
		a = &QueryVariableInfoAnswer{}
	case CheckVariable.Answer():
		a = &CheckVariableAnswer{}
	case SetVariable.Answer(), ExitBootServices.Answer(), ResetSystem.Answer():
		a = &StatusAnswer{}
	case Refusal:
		a = &RefusalAnswer{}
	default:
		return nil, fmt.Errorf("%w: %s is no answer", ErrMessage, kind)
	}
	if err := parse(kind, body, a); err != nil {
		return nil, err
	}
	return a, nil
}

func parse(kind Kind, body []byte, m interface{ body(*fields) }) error {
	f := &fields{data: body}
	if m.body(f); f.err == nil && len(f.data) > 0 {
		f.err = fmt.Errorf("%w: %d bytes follow the last field", ErrMessage, len(f.data))
	}
	if f.err == nil {
		f.err = f.badName
	}
	if f.err != nil {
		return fmt.Errorf("%s: %w", kind, f.err)
	}
	return nil
}

// AppendBody appends the body of a request or an answer.
func AppendBody(b []byte, m interface{ body(*fields) }) []byte {
	f := &fields{writing: true, data: b}
	m.body(f)
	return f.data
}

// fields goes through the fields of a body, in their order, and reads or writes them: there is one description of each
// message. All integers are little-endian.
type fields struct {
	writing bool
	data    []byte // written so far, or still to read
	err     error
	badName error
}

// take gives the next bytes that are to be read, or zeros after an error.
func (f *fields) take(n int) []byte {
	if f.err == nil && n > len(f.data) {
		f.err = fmt.Errorf("%w: it ends in the middle of a field", ErrMessage)
	}
	if f.err != nil {
		return make([]byte, min(n, 16))
	}
	taken := f.data[:n]
	f.data = f.data[n:]
	return taken
}

func (f *fields) u16(v *uint16) {
	if f.writing {
		f.data = binary.LittleEndian.AppendUint16(f.data, *v)
		return
	}
	*v = binary.LittleEndian.Uint16(f.take(2))
}

// zero is two bytes that mean nothing.
func (f *fields) zero() {
	var v uint16
	if f.u16(&v); v != 0 && f.err == nil {
		f.err = fmt.Errorf("%w: a field that must be 0 is %d", ErrMessage, v)
	}
}

func (f *fields) u32(v *uint32) {
	if f.writing {
		f.data = binary.LittleEndian.AppendUint32(f.data, *v)
		return
	}
	*v = binary.LittleEndian.Uint32(f.take(4))
}

func (f *fields) u64(v *uint64) {
	if f.writing {
		f.data = binary.LittleEndian.AppendUint64(f.data, *v)
		return
	}
	*v = binary.LittleEndian.Uint64(f.take(8))
}

// guid is an EFI_GUID: of the text's five groups, the first three are little-endian integers (UEFI 2.10, appendix A).
func (f *fields) guid(v *uuid.UUID) {
	swap := func(b []byte) {
		slices.Reverse(b[0:4])
		slices.Reverse(b[4:6])
		slices.Reverse(b[6:8])
	}
	if f.writing {
		g := *v
		swap(g[:])
		f.data = append(f.data, g[:]...)
		return
	}
	copy(v[:], f.take(16))
	swap(v[:])
}

// toEnd is whatever is left.
func (f *fields) toEnd(v *[]byte, most int) {
	if f.writing {
		f.data = append(f.data, *v...)
		return
	}
	if len(f.data) > most && f.err == nil {
		f.err = fmt.Errorf("%w: its data has %d bytes, and may have %d", ErrMessage, len(f.data), most)
		return
	}
	*v = slices.Clone(f.take(len(f.data)))
}

func (f *fields) nameToEnd(v *string) {
	if f.writing {
		f.data = appendName(f.data, *v)
		return
	}
	f.name(v, len(f.data))
}

func (f *fields) nameWithSize(v *string) {
	var size uint32
	if f.writing {
		size = uint32(2 * len(utf16.Encode([]rune(*v))))
	}
	f.u32(&size)
	if f.writing {
		f.data = appendName(f.data, *v)
		return
	}
	f.name(v, int(size))
}

func appendName(b []byte, name string) []byte {
	for _, unit := range utf16.Encode([]rune(name)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

// name reads a name of so many bytes, without the zero at its end.
func (f *fields) name(v *string, size int) {
	if f.err == nil && (size < 0 || size > len(f.data) || size%2 != 0) {
		f.err = fmt.Errorf("%w: a name has %d bytes", ErrMessage, size)
	}
	if f.err != nil {
		return
	}
	bytes := f.take(size)
	if size > 2*NameMost {
		f.badName = fmt.Errorf("%w: it has %d characters, and may have %d", ErrName, size/2, NameMost)
		return
	}
	units := make([]uint16, size/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(bytes[2*i:])
	}
	text := utf16.Decode(units)
	if slices.Contains(units, 0) || !slices.Equal(utf16.Encode(text), units) {
		f.badName = fmt.Errorf("%w: it has a zero, or half of a surrogate pair", ErrName)
		return
	}
	*v = string(text)
}

// NameSize is how many bytes a name takes in a buffer of UEFI, the zero at its end included.
func NameSize(name string) uint32 { return uint32(2*len(utf16.Encode([]rune(name))) + 2) }
