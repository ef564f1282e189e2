package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"biosv/service/uefi/frame"
)

// Where the CMOS says how the machine was shut down, and what it says of S3 (edk2, OvmfPkg/PlatformPei).
const (
	cmosIndex    = 0x70
	cmosData     = 0x71
	shutdownCode = 0x0f
	wakesFromS3  = 0xfe
	resetControl = 0xcf9
	hardReset    = 0x06
)

// Offsets in the FADT and the FACS (ACPI 6.5, 5.2.9 and 5.2.10).
const (
	fadtFACS      = 36
	fadtXFACS     = 132
	facsVector    = 12
	facsXVector   = 24
	behindTheFACS = 0x100
)

// wake has the firmware believe that the machine slept, and that it is to go on with a program of ours. The program lies
// behind the FACS, in memory that the firmware keeps for ACPI, and says a request of a session that goes on.
func wake(phase string, words []string) error {
	f, err := encode(phase, words)
	if err != nil {
		return err
	}
	l, err := openLine()
	if err != nil {
		return err
	}
	// The session and the number are those of a guest that is still the same.
	hello, err := encode(phase, []string{"hello"})
	if err != nil {
		return err
	}
	if _, err := l.converse(hello); err != nil {
		return err
	}
	f.Session, f.Sequence = hello.Session, hello.Sequence+1
	fadt, err := os.ReadFile("/sys/firmware/acpi/tables/FACP")
	if err != nil {
		return err
	}
	facs := uint64(binary.LittleEndian.Uint32(fadt[fadtFACS:]))
	if x := binary.LittleEndian.Uint64(fadt[fadtXFACS:]); x != 0 {
		facs = x
	}
	if err := plant(facs, program(f)); err != nil {
		return err
	}
	fmt.Printf("the FACS is at %#x\n", facs)
	return errors.Join(l.out(cmosIndex, shutdownCode), l.out(cmosData, wakesFromS3), l.out(resetControl, hardReset))
}

// plant puts the program into memory and makes it the waking vector.
func plant(facs uint64, program []byte) error {
	memory, err := os.OpenFile("/dev/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	const size = 4 * 4096 // the table and the program, wherever in a page they begin
	page := facs &^ 0xfff
	b, err := unix.Mmap(int(memory.Fd()), int64(page), size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("reach the memory at %#x: %w", page, err)
	}
	defer unix.Munmap(b)
	table := b[facs-page:]
	if string(table[:4]) != "FACS" {
		return fmt.Errorf("there is no FACS at %#x", facs)
	}
	copy(table[behindTheFACS:], program)
	binary.LittleEndian.PutUint32(table[facsVector:], 0)
	binary.LittleEndian.PutUint64(table[facsXVector:], facs+behindTheFACS)
	return nil
}

// program is one for the processor that says a frame to the port. It means the same with 32 bits and with 64.
func program(f *frame.Frame) []byte {
	const (
		movDX = "\x66\xba" // and 16 bits
		movAL = "\xb0"
		inAL  = "\xec"
		outAL = "\xee"
		wait  = inAL + "\xa8\x20\x74\xfb" // test al,canSend; jz to the in
	)
	var b []byte
	port := func(register uint16) { b = binary.LittleEndian.AppendUint16(append(b, movDX...), uart+register) }
	out := func(register uint16, v byte) {
		port(register)
		b = append(append(b, movAL...), v)
		b = append(b, outAL...)
	}
	b = append(b, 0xfa) // cli
	out(lcr, 3)
	out(ier, 0)
	out(mcr, 3)
	out(fcr, 0xc7)
	for _, c := range f.AppendTo(nil) {
		port(lsr)
		b = append(b, wait...)
		out(data, c)
	}
	return append(b, 0xf4, 0xeb, 0xfd) // hlt, and again
}

// startKernel starts another kernel in the place of this one (kexec_file_load(2)).
func startKernel(kernel, initrd, arguments string) error {
	k, err := os.Open(kernel)
	if err != nil {
		return err
	}
	i, err := os.Open(initrd)
	if err != nil {
		return err
	}
	if err := unix.KexecFileLoad(int(k.Fd()), int(i.Fd()), arguments, 0); err != nil {
		return fmt.Errorf("load the kernel: %w", err)
	}
	return unix.Reboot(unix.LINUX_REBOOT_CMD_KEXEC)
}

// hibernate writes the memory to a swap partition and turns the machine off (Linux, Documentation/admin-guide/pm). It
// returns when the machine has woken.
func hibernate(device string) error {
	path, err := unix.BytePtrFromString(device)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
		return fmt.Errorf("swap to %s: %w", device, errno)
	}
	for _, w := range []struct{ file, text string }{{"image_size", "0"}, {"disk", "shutdown"}, {"state", "disk"}} {
		if err := os.WriteFile("/sys/power/"+w.file, []byte(w.text), 0); err != nil {
			return err
		}
	}
	fmt.Println("awake again: guest: ready") // which the first process said before it slept
	return nil
}

// resume does not return if the machine sleeps on the device.
func resume(device string) error {
	info, err := os.Stat(device)
	if err != nil {
		return err
	}
	d := info.Sys().(*syscall.Stat_t).Rdev
	number := strconv.Itoa(int(unix.Major(d))) + ":" + strconv.Itoa(int(unix.Minor(d)))
	if err := os.WriteFile("/sys/power/resume", []byte(number), 0); err != nil {
		return err
	}
	text, err := os.ReadFile("/sys/power/resume")
	fmt.Printf("nothing sleeps on %s\n", strings.TrimSpace(string(text)))
	return err
}
