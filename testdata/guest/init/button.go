package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

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

// obeyButton turns the guest off when somebody pushes its power button, which the modules button and evdev have. It may
// be there a while after they are.
func (g *guest) obeyButton() error {
	f, err := powerButton()
	for began := time.Now(); errors.Is(err, fs.ErrNotExist) && time.Since(began) < time.Minute; f, err = powerButton() {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("open the power button: %w", err)
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
	return nil
}

// powerButton opens the device of the power button.
func powerButton() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/input/event*/device/name")
	if err != nil {
		return nil, err
	}
	for _, path := range names {
		if name, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(name)) == "Power Button" {
			return os.Open(filepath.Join("/dev/input", filepath.Base(filepath.Dir(filepath.Dir(path)))))
		}
	}
	return nil, fs.ErrNotExist
}

func pushed(event []byte) bool {
	e := event[eventType:]
	return binary.NativeEndian.Uint16(e) == keyEvent && binary.NativeEndian.Uint16(e[2:]) == keyPower && binary.NativeEndian.Uint32(e[4:]) == keyIsPushed
}
