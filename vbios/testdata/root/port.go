package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"

	"biosv/service/uefi/frame"
)

// ports are the processor's I/O ports, which Linux gives to root (mem(4)).
type ports struct{ *os.File }

func openPorts() (ports, error) {
	f, err := os.OpenFile("/dev/port", os.O_RDWR, 0)
	return ports{f}, err
}

func (p ports) in(port int64) (byte, error) {
	var b [1]byte
	_, err := p.ReadAt(b[:], port)
	return b[0], err
}

func (p ports) out(port int64, b byte) error {
	_, err := p.WriteAt([]byte{b}, port)
	return err
}

// Registers of the 16550A that the thin virtual BIOS uses.
const (
	uart    = 0x3e8
	data    = 0
	ier     = 1
	fcr     = 2
	lcr     = 3
	mcr     = 4
	lsr     = 5
	canRead = 0x01
	canSend = 0x20
)

// line is the serial port, to be read and written.
type line struct {
	ports
	until time.Time
}

func openLine() (*line, error) {
	p, err := openPorts()
	if err != nil {
		return nil, err
	}
	l := &line{p, time.Now().Add(30 * time.Second)} // the machine may be busy
	for _, set := range []struct {
		register int64
		value    byte
	}{{lcr, 3}, {ier, 0}, {mcr, 3}, {fcr, 0xc7}} {
		err = errors.Join(err, p.out(uart+set.register, set.value))
	}
	return l, err
}

func (l *line) await(what byte) error {
	for {
		status, err := l.in(uart + lsr)
		if err != nil || status&what != 0 {
			return err
		}
		if time.Now().After(l.until) {
			return errors.New("no answer")
		}
	}
}

// Read waits for a byte.
func (l *line) Read(b []byte) (int, error) {
	if err := l.await(canRead); err != nil {
		return 0, err
	}
	var err error
	b[0], err = l.in(uart + data)
	return 1, err
}

// Write writes.
func (l *line) Write(b []byte) (int, error) {
	for i, c := range b {
		if err := l.await(canSend); err != nil {
			return i, err
		}
		if err := l.out(uart+data, c); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

var _ io.ReadWriter = (*line)(nil)

// say says Hello, then a request in a phase, and prints the answer.
func say(phase string, words []string) error {
	l, err := openLine()
	if err != nil {
		return err
	}
	defer l.Close()
	f, err := encode(phase, words)
	if err != nil {
		return err
	}
	answer, err := l.converse(f)
	if err != nil {
		return err
	}
	fmt.Println(answer)
	return nil
}

// converse gets a session for a frame, and its answer.
func (l *line) converse(f *frame.Frame) (string, error) {
	decoder := frame.NewDecoder(l)
	ask := func(f *frame.Frame) (frame.Answer, error) {
		if _, err := l.Write(f.AppendTo(nil)); err != nil {
			return nil, err
		}
		for {
			got, err := decoder.Next()
			if err != nil {
				return nil, err
			}
			if got.Sequence == f.Sequence && (got.Kind == f.Kind.Answer() || got.Kind == frame.Refusal) {
				return frame.ParseAnswer(got.Kind, got.Body)
			}
		}
	}
	// Hello takes any number. With this one, those of the driver are not behind.
	const sequence = 0
	hello := &frame.HelloRequest{Lowest: frame.Version, Highest: frame.Version}
	a, err := ask(&frame.Frame{Kind: frame.Hello, Phase: f.Phase, Sequence: sequence, Body: frame.AppendBody(nil, hello)})
	if err != nil {
		return "", err
	}
	if h, ok := a.(*frame.HelloAnswer); ok {
		f.Session, f.Sequence = h.Session, sequence+1
		if a, err = ask(f); err != nil {
			return "", err
		}
	}
	switch a := a.(type) {
	case *frame.StatusAnswer:
		return a.Status.Error(), nil
	case *frame.GetVariableAnswer:
		return fmt.Sprintf("%s %d %x", a.Status.Error(), a.Attributes, a.Data), nil
	case *frame.GetNextVariableNameAnswer:
		return fmt.Sprintf("%s %s", a.Status.Error(), a.Name), nil
	case *frame.RefusalAnswer:
		return fmt.Sprintf("refused %d", a.Reason), nil
	}
	return fmt.Sprintf("%+v", a), nil
}

// encode makes a frame of words: a phase, and one of
//
//	hello | exit | reset TYPE | get VENDOR NAME | next VENDOR NAME | set VENDOR NAME ATTRIBUTES HEX
func encode(phase string, words []string) (*frame.Frame, error) {
	number, err := strconv.ParseUint(phase, 10, 8)
	if err != nil {
		return nil, err
	}
	r, err := request(words)
	if err != nil {
		return nil, err
	}
	return &frame.Frame{Kind: r.Kind(), Phase: frame.Phase(number), Body: frame.AppendBody(nil, r)}, nil
}

func request(words []string) (frame.Request, error) {
	const room = 4096
	named := func(least int) (vendor uuid.UUID, name string, err error) {
		if len(words) < least {
			return vendor, "", fmt.Errorf("%q is too short", words)
		}
		vendor, err = uuid.Parse(words[1])
		return vendor, words[2], err
	}
	switch words[0] {
	case "hello":
		return &frame.HelloRequest{Lowest: frame.Version, Highest: frame.Version}, nil
	case "exit":
		return &frame.ExitBootServicesRequest{}, nil
	case "reset":
		return &frame.ResetSystemRequest{}, nil
	case "get":
		vendor, name, err := named(3)
		return &frame.GetVariableRequest{Vendor: vendor, Room: room, Name: name}, err
	case "next":
		vendor, name, err := named(3)
		return &frame.GetNextVariableNameRequest{Vendor: vendor, Room: room, Name: name}, err
	case "set":
		vendor, name, err := named(5)
		if err != nil {
			return nil, err
		}
		attributes, err := strconv.ParseUint(words[3], 0, 32)
		if err != nil {
			return nil, err
		}
		content, err := hex.DecodeString(words[4])
		return &frame.SetVariableRequest{Vendor: vendor, Attributes: uint32(attributes), Name: name, Data: content}, err
	}
	return nil, fmt.Errorf("%q is no request", words)
}
