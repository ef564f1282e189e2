package main

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"biosv/vbios"
)

// driver gives the one that is in the ROM, and where its section headers begin.
func driver() (image []byte, sections int) {
	image = bytes.Clone(vbios.ROM[binary.LittleEndian.Uint16(vbios.ROM[0x16:]):])
	pe := int(binary.LittleEndian.Uint32(image[lfanew:]))
	return image, pe + coffSize + int(binary.LittleEndian.Uint16(image[pe+20:]))
}

func TestADriverThatIsInItsPlacesStaysAsItIs(t *testing.T) {
	t.Parallel()
	image, _ := driver()
	settled, err := settle(bytes.Clone(image))
	if err != nil || !bytes.HasPrefix(image, settled) {
		t.Fatalf("%v, and %d bytes that are other ones", err, len(settled))
	}
	rom, err := wrap(settled)
	if err != nil || !bytes.Equal(rom, vbios.ROM) {
		t.Errorf("%v, and the ROM is another one", err)
	}
}

func TestADriverThatWouldBreakAGuestIsRefused(t *testing.T) {
	t.Parallel()
	put := func(at int, v uint32) func([]byte, int) {
		return func(image []byte, sections int) { binary.LittleEndian.PutUint32(image[sections+at:], v) }
	}
	const code, address, characteristics = 2 * sectionSize, 12, 36
	for name, c := range map[string]struct {
		change func(image []byte, sections int)
		want   string
	}{
		"no driver":                    {func(image []byte, _ int) { clear(image) }, ""},
		"an application":               {func(image []byte, sections int) { image[sections-240+68] = 10 }, "no UEFI runtime driver"},
		"code outgrows its place":      {put(code+sectionVirtualSize, 5*page+1), "has room for"},
		"code is somewhere else":       {put(code+address, 4*page), "section .code is at 0x4000"},
		"code that can be written":     {put(code+characteristics, 0xe0000020), "can be written and executed"},
		"data that can be executed":    {put(sectionSize+characteristics, 0xe0000040), "can be written and executed"},
		"another section in its place": {func(image []byte, sections int) { copy(image[sections:], ".text") }, "section .text"},
	} {
		image, sections := driver()
		c.change(image, sections)
		if _, err := settle(image); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	if _, err := wrap(make([]byte, 64<<10)); err == nil {
		t.Error("64 KiB were put into a ROM")
	}
}
