// Package frame is the language that the thin virtual BIOS of a guest speaks with the door service/uefi, as
// docs/vbios.md specifies it: frames that survive a line on which bytes get lost, and in them messages, which are the
// UEFI variable services' arguments and results. It knows what can be said, and nothing of what it means.
//
// A [Decoder] finds the frames in a stream, [ParseRequest] and [ParseAnswer] read what is in one, and [Frame.AppendTo]
// writes one. Bytes come from a guest: everything is bounded, and what is not exactly as specified is refused.
package frame

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// Version is that of the protocol.
const Version = 1

// BodyMost is how many bytes a frame's body has at most.
const BodyMost = 128 << 10

// Kind says which message a frame carries. Those of answers have the highest bit set.
type Kind uint8

// The requests.
const (
	Hello Kind = 1 + iota
	GetVariable
	GetNextVariableName
	SetVariable
	QueryVariableInfo
	ExitBootServices
	ResetSystem
	CheckVariable
)

// The answers.
const (
	answer Kind = 0x80
	// Refusal is the answer to a request that was not acted upon.
	Refusal Kind = 0xff
)

var kinds = map[Kind]string{
	Hello: "Hello", GetVariable: "GetVariable", GetNextVariableName: "GetNextVariableName", SetVariable: "SetVariable",
	QueryVariableInfo: "QueryVariableInfo", ExitBootServices: "ExitBootServices", ResetSystem: "ResetSystem",
	CheckVariable: "CheckVariable",
}

// Answer is the kind of the answer to a request of this kind.
func (k Kind) Answer() Kind { return k | answer }

// String names the kind as docs/vbios.md does.
func (k Kind) String() string {
	switch {
	case k == Refusal:
		return "Refusal"
	case kinds[k] != "":
		return kinds[k]
	case kinds[k&^answer] != "":
		return "answer to " + kinds[k&^answer]
	}
	return fmt.Sprintf("kind %#x", uint8(k))
}

// Phase says who is running the machine.
type Phase uint8

// The phases, in the order in which they come.
const (
	BootServices    Phase = iota // firmware, and what it starts
	OperatingSystem              // after ExitBootServices
)

// String names the phase.
func (p Phase) String() string {
	switch p {
	case BootServices:
		return "boot services"
	case OperatingSystem:
		return "operating system"
	}
	return fmt.Sprintf("phase %d", uint8(p))
}

// Frame is one message on its way.
type Frame struct {
	Kind     Kind
	Phase    Phase // the sender's; in an answer BootServices
	Session  uint32
	Sequence uint32
	Body     []byte
}

const (
	nothing = 0x00 // never sent: it is what a receiver without a byte gives
	flag    = 0x7e // before and behind each frame, and nowhere in it
	escape  = 0x7d // the next byte has its bit 5 changed
	flip    = 0x20
	mask    = 0x9c // changes all bytes of a frame, so that those that must be escaped are rare ones

	headerSize = 16
	checkSize  = 4
)

// AppendTo appends the frame as it is sent. A body of more than BodyMost bytes is a mistake of the caller, and no
// receiver takes it.
func (f *Frame) AppendTo(b []byte) []byte {
	var header [headerSize]byte
	header[0], header[1], header[2] = Version, byte(f.Kind), byte(f.Phase)
	binary.LittleEndian.PutUint32(header[4:], f.Session)
	binary.LittleEndian.PutUint32(header[8:], f.Sequence)
	binary.LittleEndian.PutUint32(header[12:], uint32(len(f.Body)))
	check := crc32.Update(crc32.ChecksumIEEE(header[:]), crc32.IEEETable, f.Body)

	b = slices.Grow(b, headerSize+len(f.Body)+len(f.Body)/16+checkSize+16) // of 256 bytes, three are escaped
	b = append(b, flag)
	b = appendEscaped(b, header[:])
	b = appendEscaped(b, f.Body)
	b = appendEscaped(b, binary.LittleEndian.AppendUint32(nil, check))
	return append(b, flag)
}

func appendEscaped(b, data []byte) []byte {
	for _, c := range data {
		if c ^= mask; c == nothing || c == flag || c == escape {
			b = append(b, escape)
			c ^= flip
		}
		b = append(b, c)
	}
	return b
}

// Decoder finds frames in a stream. It passes over everything else: noise, frames that were cut off or damaged, and
// those of another version. The work for a byte is bounded, whatever comes before and after it.
type Decoder struct {
	r     *bufio.Reader
	data  []byte // what came since the last flag, without escapes
	noise Noise
}

// Noise is what was passed over: pieces between two flags that are no frame, and how many bytes of them came.
type Noise struct{ Pieces, Bytes uint64 }

// NewDecoder makes a Decoder.
func NewDecoder(r io.Reader) *Decoder { return &Decoder{r: bufio.NewReader(r)} }

// Noise counts what was passed over so far. What is still coming counts when it is longer than a frame can be.
func (d *Decoder) Noise() Noise { return d.noise }

// Next gives the next frame, whose body is good until Next is called again, or the error of the reader that is below.
func (d *Decoder) Next() (*Frame, error) {
	d.data = d.data[:0]
	came := uint64(0) // since the last flag, as long as it may be a frame
	for escaped, long := false, false; ; {
		c, err := d.r.ReadByte()
		switch {
		case err != nil:
			return nil, err
		case c == flag:
			if f := d.frame(); f != nil && !escaped && !long {
				return f, nil
			}
			d.noise.add(came)
			d.data, escaped, long, came = d.data[:0], false, false, 0
		case c == nothing:
		case long:
			d.noise.Bytes++
		default:
			came++
			if c == escape {
				escaped = true
				continue
			}
			if escaped {
				c, escaped = c^flip, false
			}
			d.data = append(d.data, c^mask)
			if long = len(d.data) > headerSize+BodyMost+checkSize; long {
				d.noise.add(came)
				came = 0
			}
		}
	}
}

// add adds a piece.
func (n *Noise) add(bytes uint64) {
	if bytes > 0 {
		n.Pieces++
		n.Bytes += bytes
	}
}

// frame reads what was collected between two flags.
func (d *Decoder) frame() *Frame {
	if len(d.data) < headerSize+checkSize {
		return nil
	}
	header, rest := d.data[:headerSize], d.data[headerSize:]
	body, check := rest[:len(rest)-checkSize], rest[len(rest)-checkSize:]
	if header[0] != Version || header[3] != 0 || binary.LittleEndian.Uint32(header[12:]) != uint32(len(body)) ||
		binary.LittleEndian.Uint32(check) != crc32.Update(crc32.ChecksumIEEE(header), crc32.IEEETable, body) {
		return nil
	}
	return &Frame{
		Kind: Kind(header[1]), Phase: Phase(header[2]),
		Session: binary.LittleEndian.Uint32(header[4:]), Sequence: binary.LittleEndian.Uint32(header[8:]), Body: body,
	}
}
