package main

import (
	"encoding/binary"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Of a struct input_event: its size, where type, code and value are, and what they are when the power button is pushed
// (Linux, Documentation/input/input.rst).
const (
	eventBytes  = 24
	eventType   = 16
	keyEvent    = 1
	keyPower    = 116
	keyIsPushed = 1
)

// obeyButtons turns the guest off when somebody pushes its power button, where it has the modules button and evdev.
func (g *guest) obeyButtons() error {
	devices, err := filepath.Glob("/dev/input/event*")
	if err != nil {
		return err
	}
	for _, d := range devices {
		f, err := os.Open(d)
		if err != nil {
			return err
		}
		go func() {
			for event := make([]byte, eventBytes); ; {
				if _, err := f.Read(event); err != nil {
					g.say("read %s: %v", f.Name(), err)
					return
				}
				if pushed(event) {
					g.say("the power button was pushed")
					g.end(unix.LINUX_REBOOT_CMD_POWER_OFF)
				}
			}
		}()
	}
	return nil
}

func pushed(event []byte) bool {
	e := event[eventType:]
	return binary.NativeEndian.Uint16(e) == keyEvent && binary.NativeEndian.Uint16(e[2:]) == keyPower && binary.NativeEndian.Uint32(e[4:]) == keyIsPushed
}
