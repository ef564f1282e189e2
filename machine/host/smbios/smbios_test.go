package smbios

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// captured reads the tables of a machine of ../testdata, whose README says what it is.
func captured(t testing.TB, machine string) (entry, table []byte) {
	t.Helper()
	dir := filepath.Join("..", "testdata", machine, "sys", "firmware", "dmi", "tables")
	entry, err := os.ReadFile(filepath.Join(dir, "smbios_entry_point"))
	if err != nil {
		t.Fatal(err)
	}
	if table, err = os.ReadFile(filepath.Join(dir, "DMI")); err != nil {
		t.Fatal(err)
	}
	return entry, table
}

// QEMU was told what the machines consist of, and wrote the tables.
func TestParseReadsTheTablesOfQEMU(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		machine, version string
		firmware         Firmware
	}{
		{"seabios", "2.8", Firmware{Vendor: "SeaBIOS", Version: "1.16.2-debian-1.16.2-1", ReleaseDate: "04/01/2014"}},
		{"ovmf", "3.0", Firmware{Vendor: "EFI Development Kit II / OVMF", Version: "0.0.0", ReleaseDate: "02/06/2015", Virtual: true}},
	} {
		t.Run(row.machine, func(t *testing.T) {
			tables, err := Parse(captured(t, row.machine))
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range []struct {
				name      string
				got, want any
			}{
				{"version", tables.Version(), row.version},
				{"structures", tables.Len(), 10},
				{"firmware", tables.Firmware(), row.firmware},
				{"system", tables.System(), System{Manufacturer: "BIOS.v", Product: "Captured Guest", SerialNumber: "CG-0001", UUID: "6b7a3a52-0f5e-4a8c-9d6e-0123456789ab"}},
				{"asset tag", tables.AssetTag(), "Shelf 7"},
				{"processors", tables.Processors(), []Processor{
					{Socket: "CPU 0", Version: "pc-q35-7.2", Cores: 2, EnabledCores: 2, Threads: 2},
					{Socket: "CPU 1", Version: "pc-q35-7.2", Cores: 2, EnabledCores: 2, Threads: 2},
				}},
				{"modules", tables.Modules(), []Module{{Locator: "DIMM 0", MiB: 512, MTs: 3200}}},
			} {
				if diff := cmp.Diff(part.want, part.got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", part.name, diff)
				}
			}
		})
	}
}

// build makes a structure of a type, of a length, with bytes at offsets, and strings.
func build(kind byte, length int, at map[int][]byte, texts ...string) []byte {
	b := make([]byte, length)
	b[0], b[1] = kind, byte(length)
	for offset, value := range at {
		copy(b[offset:], value)
	}
	for _, s := range texts {
		b = append(append(b, s...), 0)
	}
	if len(texts) == 0 {
		b = append(b, 0)
	}
	return append(b, 0)
}

func word(n uint16) []byte  { return binary.LittleEndian.AppendUint16(nil, n) }
func dword(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// entry64 makes a 64-bit entry point to a table of at most length bytes.
func entry64(major, minor byte, length int) []byte {
	b := append([]byte("_SM3_\x00\x18"), major, minor, 0, 1, 0)
	b = append(append(b, dword(uint32(length))...), make([]byte, 8)...)
	b[5] = -sum(b)
	return b
}

// parse reads structures as a table of a version, which must be right.
func parse(t *testing.T, major, minor byte, structures ...[]byte) *Tables {
	t.Helper()
	table := append(bytes.Join(structures, nil), build(typeEndOfTable, 4, nil)...)
	tables, err := Parse(entry64(major, minor, len(table)), table)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

func TestProcessorsReadsCountsOfEveryWidth(t *testing.T) {
	t.Parallel()
	const populated = 0x41
	counts := func(length int, cores, enabled, threads byte, wide ...uint16) []byte {
		at := map[int][]byte{0x04: {1}, 0x05: {3}, 0x10: {2}, 0x18: {populated}, 0x23: {cores, enabled, threads}}
		for i, w := range wide {
			at[0x2a+2*i] = word(w)
		}
		return build(typeProcessor, length, at, "S1", "Model")
	}
	for _, row := range []struct {
		name      string
		structure []byte
		want      []Processor
	}{
		{"one byte each (2.6)", counts(0x2a, 8, 6, 16), []Processor{{"S1", "Model", 8, 6, 16}}},
		{"words (3.0)", counts(0x30, 255, 255, 255, 288, 256, 576), []Processor{{"S1", "Model", 288, 256, 576}}},
		{"a word for the threads alone", counts(0x30, 128, 128, 255, 128, 128, 256), []Processor{{"S1", "Model", 128, 128, 256}}},
		{"255 before there were words", counts(0x2a, 255, 254, 255), []Processor{{"S1", "Model", 255, 254, 255}}},
		{"words that are reserved", counts(0x30, 255, 255, 255, 0xffff, 0, 0xffff), []Processor{{"S1", "Model", 0, 0, 0}}},
		{"unknown", counts(0x30, 0, 0, 0, 4, 4, 4), []Processor{{"S1", "Model", 0, 0, 0}}},
		{"no counts (2.3)", build(typeProcessor, 0x23, map[int][]byte{0x04: {1}, 0x05: {3}, 0x18: {populated}}, "S1"), []Processor{{Socket: "S1"}}},
		{"an empty socket", build(typeProcessor, 0x2a, map[int][]byte{0x04: {1}, 0x05: {3}, 0x18: {0x01}}, "S1"), nil},
		{"a signal processor", build(typeProcessor, 0x2a, map[int][]byte{0x04: {1}, 0x05: {5}, 0x18: {populated}}, "S1"), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, parse(t, 3, 7, row.structure).Processors()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestModulesReadsSizesAndSpeedsOfEveryUnit(t *testing.T) {
	t.Parallel()
	module := func(length int, at map[int][]byte) []byte {
		at[0x10] = []byte{1}
		return build(typeMemory, length, at, "A1")
	}
	for _, row := range []struct {
		name      string
		structure []byte
		want      []Module
	}{
		{"MiB", module(0x28, map[int][]byte{0x0c: word(16384), 0x20: word(3200)}), []Module{{"A1", 16384, 3200}}},
		{"KiB", module(0x28, map[int][]byte{0x0c: word(0x8000 | 2048)}), []Module{{"A1", 2, 0}}},
		{"less than a MiB", module(0x28, map[int][]byte{0x0c: word(0x8000 | 512)}), nil},
		{"the greatest size of a word", module(0x28, map[int][]byte{0x0c: word(0x7ffe)}), []Module{{"A1", 32766, 0}}},
		{"extended size, whose top bit is reserved", module(0x28, map[int][]byte{0x0c: word(0x7fff), 0x1c: dword(1<<31 | 131072)}), []Module{{"A1", 131072, 0}}},
		{"extended size that is not there", module(0x1c, map[int][]byte{0x0c: word(0x7fff)}), nil},
		{"extended speed", module(0x5c, map[int][]byte{0x0c: word(1024), 0x20: word(0xffff), 0x58: dword(70000)}), []Module{{"A1", 1024, 70000}}},
		{"extended speed that is not there", module(0x28, map[int][]byte{0x0c: word(1024), 0x20: word(0xffff)}), []Module{{"A1", 1024, 0}}},
		{"no speed (2.3)", module(0x1b, map[int][]byte{0x0c: word(1024)}), []Module{{"A1", 1024, 0}}},
		{"an empty slot", module(0x28, map[int][]byte{0x0c: word(0)}), nil},
		{"an unknown size", module(0x28, map[int][]byte{0x0c: word(0xffff)}), nil},
		{"a structure that ends before its size", build(typeMemory, 0x0d, map[int][]byte{0x0c: {4}}), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, parse(t, 3, 7, row.structure).Modules()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSystemReadsUUIDsByVersion(t *testing.T) {
	t.Parallel()
	// The example of section 7.2.1: 00112233-4455-6677-8899-AABBCCDDEEFF is stored as 33 22 11 00 55 44 77 66 88 99 ...
	stored := []byte{0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	for _, row := range []struct {
		name         string
		major, minor byte
		length       int
		uuid         []byte
		want         string
	}{
		{"2.6", 2, 6, 0x1b, stored, "00112233-4455-6677-8899-aabbccddeeff"},
		{"3.7", 3, 7, 0x1b, stored, "00112233-4455-6677-8899-aabbccddeeff"},
		{"2.5, in the order of the network", 2, 5, 0x1b, stored, "33221100-5544-7766-8899-aabbccddeeff"},
		{"none", 3, 0, 0x1b, bytes.Repeat([]byte{0xff}, 16), ""},
		{"not set", 3, 0, 0x1b, make([]byte, 16), ""},
		{"a structure that ends within it", 3, 0, 0x17, stored[:15], ""},
		{"a structure of 2.0", 2, 0, 0x08, nil, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := parse(t, row.major, row.minor, build(typeSystem, row.length, map[int][]byte{0x08: row.uuid})).System().UUID; got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestStringsComeOutAsText(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, stored, want string
		number             byte
	}{
		{"the first", "Maker", "Maker", 1},
		{"blanks around it", "  Maker \t", "Maker", 1},
		{"blanks alone", "   ", "", 1},
		{"none", "Maker", "", 0},
		{"one that is not there", "Maker", "", 2},
		{"letters of UTF-8", "Müller", "Müller", 1},
		{"bytes that are no text", "A\xffB\x1b[2J\x7fC\u202eD", "AB[2JCD", 1},
		{"too long", strings.Repeat("ä", 200), strings.Repeat("ä", 128), 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := parse(t, 3, 0, build(typeSystem, 0x1b, map[int][]byte{0x04: {row.number}}, row.stored)).System().Manufacturer; got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestFirmwareIsVirtualWhereItSaysSo(t *testing.T) {
	t.Parallel()
	for extension, want := range map[byte]bool{0x00: false, 0x0c: false, 0x10: true, 0x1c: true} {
		if got := parse(t, 3, 0, build(typeFirmware, 0x18, map[int][]byte{0x13: {extension}})).Firmware().Virtual; got != want {
			t.Errorf("extension byte %#x: got %t", extension, got)
		}
	}
	if parse(t, 2, 0, build(typeFirmware, 0x12, nil)).Firmware().Virtual {
		t.Error("a structure without the byte says it")
	}
}

func TestParseRefusesWhatIsDamaged(t *testing.T) {
	t.Parallel()
	good := build(typeSystem, 0x08, nil, "x")
	short := build(typeSystem, 0x08, nil)
	short[1] = 3
	long := build(typeSystem, 0x08, nil)
	long[1] = 200
	for _, row := range []struct {
		name         string
		entry, table []byte
		want         string
	}{
		{"no entry point", nil, good, "begins with neither _SM_ nor _SM3_"},
		{"another anchor", []byte("_SM4_" + strings.Repeat("\x00", 26)), good, "begins with neither _SM_ nor _SM3_"},
		{"an anchor alone", []byte("_SM3_"), good, "it has 5 bytes; 24 are needed"},
		{"a 32-bit anchor alone", []byte("_SM_"), good, "it has 4 bytes; 31 are needed"},
		{"a table longer than is read", entry64(3, 0, 1<<30), make([]byte, MaxTable+1), "at most 1048576 are read"},
		{"a table longer than the entry point allows", entry64(3, 0, 4), good, "its entry point allows 4"},
		{"a rest shorter than a header", entry64(3, 0, 100), append(good, 1, 2), "2 bytes are left"},
		{"a length below that of a header", entry64(3, 0, 100), short, "says that it is 3 bytes long"},
		{"a length beyond the table", entry64(3, 0, 100), long, "says that it is 200 bytes long"},
		{"strings without an end", entry64(3, 0, 100), good[:len(good)-1], "do not end"},
		{"more structures than are read", entry64(3, 0, 1<<20), bytes.Repeat([]byte{9, 4, 0, 0, 0, 0}, maxStructures+1), "more than 16384 structures"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := Parse(row.entry, row.table); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

func TestParseRefusesAnEntryPointWithAnyByteChanged(t *testing.T) {
	t.Parallel()
	for _, machine := range []string{"seabios", "ovmf"} {
		entry, table := captured(t, machine)
		for i := range entry {
			changed := bytes.Clone(entry)
			changed[i] ^= 0x20
			if _, err := Parse(changed, table); err == nil {
				t.Errorf("%s: byte %d changed, and it was read", machine, i)
			}
		}
	}
}

func TestParseRefusesATableThatWasCutWithinAStructure(t *testing.T) {
	t.Parallel()
	for _, machine := range []string{"seabios", "ovmf"} {
		entry, table := captured(t, machine)
		whole, err := Parse(entry, table)
		if err != nil {
			t.Fatal(err)
		}
		read := 0
		for n := range table {
			if _, err := Parse(entry, table[:n]); err == nil {
				read++
			}
		}
		if read != whole.Len() { // of no structure, of one, and so on, but for the last
			t.Errorf("%s: %d of the cut tables were read; %d end between structures", machine, read, whole.Len())
		}
	}
}

func TestParseStopsAtTheEndOfTheTable(t *testing.T) {
	t.Parallel()
	table := bytes.Join([][]byte{build(typeSystem, 0x08, nil), build(typeEndOfTable, 4, nil), []byte("what is left of the room")}, nil)
	tables, err := Parse(entry64(3, 0, len(table)), table)
	if err != nil || tables.Len() != 2 {
		t.Errorf("got %v, %v", tables, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, machine := range []string{"seabios", "ovmf"} {
		entry, table := captured(f, machine)
		f.Add(entry, table)
	}
	f.Add(entry64(3, 7, 64), build(typeMemory, 0x28, map[int][]byte{0x0c: word(0x7fff), 0x10: {1}}, "A1"))
	f.Fuzz(func(t *testing.T, entry, table []byte) {
		// The checksums would keep the fuzzer out.
		if bytes.HasPrefix(entry, []byte("_SM3_")) && len(entry) > 6 && int(entry[6]) <= len(entry) && entry[6] > 5 {
			entry = bytes.Clone(entry)
			entry[5] -= sum(entry[:entry[6]])
		}
		tables, err := Parse(entry, table)
		if err != nil {
			if tables != nil {
				t.Error("damaged tables gave structures")
			}
			return
		}
		texts := []string{tables.AssetTag(), tables.Firmware().Vendor, tables.System().Manufacturer, tables.System().UUID}
		for _, p := range tables.Processors() {
			texts = append(texts, p.Socket, p.Version)
		}
		for _, m := range tables.Modules() {
			texts = append(texts, m.Locator)
			if m.MiB == 0 || m.MiB > 1<<31-1 {
				t.Errorf("a module of %d MiB", m.MiB)
			}
		}
		for _, s := range texts {
			if len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q is not what an answer may bear", s)
			}
		}
	})
}
