package ovmf

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	page       = 0x1000
	newHeaders = 0x400 // where the program's own headers go
)

// kernel makes an EFI program one that QEMU's -kernel starts under Secure Boot too. OVMF asks for a signature on what
// it is given there, and where there is none, starts it as older firmware started a Linux kernel: by what stands at
// its beginning (Documentation/arch/x86/boot.rst, the real-mode kernel header), by the EFI handover protocol. A
// program whose sections lie in the file as in memory, behind a page of headers, has room for both there.
func kernel(program []byte) ([]byte, error) {
	f, err := pe.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, err
	}
	o, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || len(program) < page || o.SizeOfHeaders != page {
		return nil, errors.New("the program does not begin with a page of headers")
	}
	for _, s := range f.Sections {
		if s.Size != 0 && s.Offset != s.VirtualAddress {
			return nil, fmt.Errorf("the section %s lies at %#x of the file, and at %#x of memory", s.Name, s.Offset, s.VirtualAddress)
		}
	}
	const skipped = 0x200 // before the entry for 64 bits
	if o.AddressOfEntryPoint <= page+skipped {
		return nil, fmt.Errorf("the program's entry is at %#x", o.AddressOfEntryPoint)
	}
	old := binary.LittleEndian.Uint32(program[0x3c:])
	k := append(make([]byte, page), program[page:]...)
	copy(k, program[:0x40])
	binary.LittleEndian.PutUint32(k[0x3c:], newHeaders)
	copy(k[newHeaders:page], program[old:page-(newHeaders-old)])

	k[0x1f1] = page/512 - 1                                                   // setup_sects, besides the first
	binary.LittleEndian.PutUint32(k[0x1f4:], uint32(len(program)-page+15)/16) // syssize
	binary.LittleEndian.PutUint16(k[0x1fe:], 0xaa55)                          // boot_flag
	copy(k[0x200:], "\xeb\x66HdrS")                                           // the header ends 0x66 bytes behind the jump
	binary.LittleEndian.PutUint16(k[0x206:], 0x20c)                           // version of the boot protocol
	k[0x211] = 1                                                              // loadflags: LOADED_HIGH
	binary.LittleEndian.PutUint32(k[0x22c:], 0x7fffffff)                      // initrd_addr_max
	binary.LittleEndian.PutUint32(k[0x230:], page)                            // kernel_alignment
	k[0x234] = 1                                                              // relocatable_kernel
	k[0x236] = 1 | 8                                                          // xloadflags: XLF_KERNEL_64, XLF_EFI_HANDOVER_64
	binary.LittleEndian.PutUint32(k[0x238:], 255)                             // cmdline_size
	binary.LittleEndian.PutUint64(k[0x258:], 0x1000000)                       // pref_address
	binary.LittleEndian.PutUint32(k[0x260:], o.SizeOfImage-page)              // init_size
	binary.LittleEndian.PutUint32(k[0x264:], o.AddressOfEntryPoint-page-skipped)
	return k, nil
}
