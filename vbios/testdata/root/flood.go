package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"biosv/service/uefi/frame"
)

// outs writes bytes to a port, one by one.
func outs(port uint16, b []byte)

// flood writes to a serial port as fast as the machine lets it, and says how much that was.
func flood(port, kind, seconds string) error {
	p, err := strconv.ParseUint(port, 0, 16)
	if err != nil {
		return err
	}
	most, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return err
	}
	next := kinds[kind]
	if next == nil {
		return fmt.Errorf("%s is no kind of flood", kind)
	}
	runtime.LockOSThread() // the right to use ports is the thread's
	if err := unix.Iopl(3); err != nil {
		return fmt.Errorf("get the right to use ports: %w", err)
	}
	for _, set := range []struct {
		register uint16
		value    byte
	}{{lcr, 3}, {ier, 0}, {mcr, 3}, {fcr, 0xc7}} {
		outs(uint16(p)+set.register, []byte{set.value})
	}
	fmt.Println("flooding")
	sent := 0
	began := time.Now()
	for time.Since(began).Seconds() < most {
		b := next()
		outs(uint16(p), b)
		sent += len(b)
	}
	fmt.Printf("%d bytes a second of %s\n", int(float64(sent)/time.Since(began).Seconds()), kind)
	return nil
}

// kinds make the next bytes of a flood.
var kinds = map[string]func() []byte{
	"random": func() []byte {
		b := make([]byte, 4096)
		for i := 0; i < len(b); i += 8 {
			binary.LittleEndian.PutUint64(b[i:], rand.Uint64())
		}
		return b
	},
	// A frame that begins and does not end, and then another.
	"half": func() []byte {
		f := frame.Frame{Kind: frame.SetVariable, Phase: frame.OperatingSystem, Body: make([]byte, 512)}
		b := f.AppendTo(nil)
		return b[:1+rand.IntN(len(b)-2)]
	},
	// A frame that says that it has 4 GiB, and goes on.
	"huge": func() []byte {
		f := frame.Frame{Kind: frame.SetVariable, Phase: frame.OperatingSystem, Body: make([]byte, 16<<10)}
		b := f.AppendTo(nil)
		for i := 13; i < 17; i++ {
			b[i] = 0xff ^ 0x9c
		}
		if rand.IntN(16) != 0 {
			return b[1 : len(b)-1] // more of the same one
		}
		return b
	},
	// Whole requests, which are refused because they are of no session.
	"requests": func() []byte {
		var b []byte
		for range 16 {
			r := &frame.GetVariableRequest{Name: "Flood", Room: 100}
			f := frame.Frame{Kind: frame.GetVariable, Phase: frame.OperatingSystem, Session: rand.Uint32(), Sequence: rand.Uint32(), Body: frame.AppendBody(nil, r)}
			b = f.AppendTo(b)
		}
		return b
	},
}
