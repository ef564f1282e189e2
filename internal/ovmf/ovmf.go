// Package ovmf makes calls of UEFI's variable services to a stock OVMF under QEMU, which keeps its variables itself:
// no thin virtual BIOS is in the machine. What BIOS.v answers can so be held against what the firmware in daily use
// answers. Begin with [Start].
//
// An EFI program (program/calls.c) stands in the place of an operating system. Calls come to it over a serial port as
// 36 bytes: the call, attributes, vendor GUID, how many bytes of name and of data follow, and how many zeros follow
// those in memory alone. Answers go back as 40: status, attributes, vendor GUID, how many bytes of name and data
// follow, and four zeros. Numbers are little-endian, and names end with a NULL.
package ovmf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"biosv/internal/guest"
	"biosv/internal/testbed"
	"biosv/smm/variable/efi"
)

// Machine is a virtual machine in which the program runs. Its calls are made one after the other. What goes wrong
// besides a status fails the test.
type Machine struct {
	t         testing.TB
	guest     *guest.Guest
	conn      net.Conn
	variables string // file of its flash
}

// patience is how long the machine may take for anything, under emulation on a host that is busy.
const patience = 90 * time.Second

// Start starts a machine with variables in its flash: a variable store of OVMF.
func Start(t testing.TB, flash []byte) *Machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovmf") // a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	if out, err := exec.Command(filepath.Join(testbed.Root, "internal", "ovmf", "build.sh"), at("program")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(at("program"))
	if err != nil {
		t.Fatal(err)
	}
	started, err := kernel(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(at("kernel"), started, 0o600), os.WriteFile(at("raw"), flash, 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(guest.Tool(t, "qemu-img"), "convert", "-f", "raw", "-O", "qcow2", at("raw"), at("variables")).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	m := &Machine{t: t, variables: at("variables")}
	m.guest = guest.Start(t, guest.Config{
		Memory: 128, Program: at("kernel"), Variables: at("variables"),
		Args: []string{"-chardev", "socket,id=calls,path=" + at("calls") + ",server=on,wait=off", "-device", "isa-serial,index=2,iobase=0x3e8,irq=11,chardev=calls"},
	})
	if m.conn, err = net.Dial("unix", at("calls")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	m.awaitProgram()
	return m
}

func (m *Machine) awaitProgram() {
	m.t.Helper()
	if got := m.read(6); string(got) != "ready\n" {
		m.t.Fatalf("the program says %q", got)
	}
}

// Reset resets the machine, whose firmware and program start again.
func (m *Machine) Reset() {
	m.t.Helper()
	m.guest.Reset(m.t)
	m.awaitProgram()
}

// Keep keeps the machine as it is under a name.
func (m *Machine) Keep(name string) { m.guest.Keep(m.t, name) }

// Return makes the machine what it was when it was kept.
func (m *Machine) Return(name string) { m.guest.Return(m.t, name) }

// Flash cuts the machine's power, and gives its flash.
func (m *Machine) Flash() []byte {
	m.t.Helper()
	m.guest.Kill()
	raw := m.variables + ".raw"
	if out, err := exec.Command(guest.Tool(m.t, "qemu-img"), "convert", "-f", "qcow2", "-O", "raw", m.variables, raw).CombinedOutput(); err != nil {
		m.t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	b, err := os.ReadFile(raw)
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

// The calls that the program knows.
const (
	getVariable = 1 + iota
	getNextVariableName
	setVariable
	queryVariableInfo
	exitBootServices
)

// GetVariable gives a variable. Its errors, as those of all calls, are an [efi.Status].
func (m *Machine) GetVariable(name string, vendor efi.GUID) (efi.Attributes, []byte, error) {
	m.t.Helper()
	a, err := m.call(getVariable, 0, name, vendor, nil, 0)
	return a.attributes, a.data, err
}

// GetNextVariableName gives the variable after one; the one without a name is before the first.
func (m *Machine) GetNextVariableName(name string, vendor efi.GUID) (string, efi.GUID, error) {
	m.t.Helper()
	a, err := m.call(getNextVariableName, 0, name, vendor, nil, 0)
	return a.name, a.vendor, err
}

// SetVariable makes, changes, extends or deletes a variable. Zeros at the end of data are cheap.
func (m *Machine) SetVariable(name string, vendor efi.GUID, attributes efi.Attributes, data []byte) error {
	m.t.Helper()
	some := bytes.TrimRight(data, "\x00")
	_, err := m.call(setVariable, attributes, name, vendor, some, len(data)-len(some))
	return err
}

// QueryVariableInfo asks how much room there is.
func (m *Machine) QueryVariableInfo(attributes efi.Attributes) (maximum, remaining, largest uint64, err error) {
	m.t.Helper()
	a, err := m.call(queryVariableInfo, attributes, "", efi.GUID{}, nil, 0)
	if err != nil {
		return 0, 0, 0, err
	}
	return binary.LittleEndian.Uint64(a.data), binary.LittleEndian.Uint64(a.data[8:]), binary.LittleEndian.Uint64(a.data[16:]), nil
}

// ExitBootServices ends boot services, until the next [Machine.Reset].
func (m *Machine) ExitBootServices() {
	m.t.Helper()
	if _, err := m.call(exitBootServices, 0, "", efi.GUID{}, nil, 0); err != nil {
		m.t.Fatalf("ExitBootServices: %v", err)
	}
}

type answer struct {
	attributes efi.Attributes
	vendor     efi.GUID
	name       string
	data       []byte
}

func (m *Machine) call(number uint32, attributes efi.Attributes, name string, vendor efi.GUID, data []byte, zeros int) (a answer, err error) {
	m.t.Helper()
	text := append(efi.EncodeName(name), 0, 0)
	q := binary.LittleEndian.AppendUint32(nil, number)
	q = binary.LittleEndian.AppendUint32(q, uint32(attributes))
	q = append(q, vendor[:]...)
	for _, n := range []int{len(text), len(data), zeros} {
		q = binary.LittleEndian.AppendUint32(q, uint32(n))
	}
	if err := m.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.conn.Write(append(append(q, text...), data...)); err != nil {
		m.t.Fatal(err)
	}
	head := m.read(40)
	status := efi.Status(binary.LittleEndian.Uint64(head))
	a.attributes, a.vendor = efi.Attributes(binary.LittleEndian.Uint32(head[8:])), efi.GUID(head[12:28])
	if n := binary.LittleEndian.Uint32(head[28:]); n > 0 {
		if a.name, err = efi.DecodeName(m.read(n)[:n-2]); err != nil {
			m.t.Fatal(err)
		}
	}
	a.data = m.read(binary.LittleEndian.Uint32(head[32:]))
	if status != efi.Success {
		return a, status
	}
	return a, nil
}

func (m *Machine) read(size uint32) []byte {
	m.t.Helper()
	b := make([]byte, size)
	if err := m.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		m.t.Fatal(err)
	}
	if _, err := io.ReadFull(m.conn, b); err != nil {
		m.t.Fatalf("the program does not answer: %v", err)
	}
	return b
}
