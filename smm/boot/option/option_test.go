package option

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"biosv/generated"
)

// ovmf reads testdata/ovmf.txt.
func ovmf(t testing.TB) (values [][]byte, want []Option) {
	t.Helper()
	text, err := os.ReadFile("testdata/ovmf.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 {
			t.Fatalf("%q is no line of a target, a description, a path and a value", line)
		}
		value, err := hex.DecodeString(f[3])
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
		want = append(want, Option{Active: true, Hidden: f[1] == "UiApp", Description: f[1], Path: f[2], Target: generated.BootTarget(f[0])})
	}
	return values, want
}

func TestParseReadsWhatOVMFMakes(t *testing.T) {
	t.Parallel()
	values, want := ovmf(t)
	if len(values) < 10 {
		t.Fatalf("there are %d options", len(values))
	}
	for i, value := range values {
		if diff := cmp.Diff(want[i], Parse(value)); diff != "" {
			t.Error(diff)
		}
	}
}

func wide16(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func load(attributes uint32, description string, path []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, attributes)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	return append(append(append(b, wide16(description)...), 0, 0), path...)
}

// pathOf is a path of nodes, each in hexadecimal and without its length.
func pathOf(nodes ...string) (b []byte) {
	for _, n := range append(nodes, "7fff") {
		raw, err := hex.DecodeString(strings.ReplaceAll(n, " ", ""))
		if err != nil {
			panic(err)
		}
		b = append(b, raw[0], raw[1], byte(len(raw)+2), byte((len(raw)+2)>>8))
		b = append(b, raw[2:]...)
	}
	return b
}

const aGUID = "83a5047c 3e9e 1c4f ad65 e05268d0b4d1"

// Texts by UEFI 2.10, section 10.6.1.6.
func TestNodesAsText(t *testing.T) {
	t.Parallel()
	gpt := "0401 01000000 0008000000000000 00f8030000000000" + aGUID + "0202"
	for _, row := range []struct {
		nodes  []string
		text   string
		target generated.BootTarget
	}{
		{[]string{gpt, "0404" + hex.EncodeToString(wide16(`\EFI\debian\shimx64.efi`)) + "0000"}, `HD(1,GPT,7C04A583-9E3E-4F1C-AD65-E05268D0B4D1,0x800,0x3F800)/\EFI\debian\shimx64.efi`, "Hdd"},
		{[]string{"0401 02000000 3f00000000000000 0100000000000000 78563412 000000000000000000000000 0101"}, "HD(2,MBR,0x12345678,0x3F,0x1)", "Hdd"},
		{[]string{"0401 02000000 3f00000000000000 0100000000000000 00000000000000000000000000000000 0000"}, "HD(2,0,0,0x3F,0x1)", "Hdd"},
		{[]string{"0402 01000000 2000000000000000 4000000000000000"}, "CDROM(0x1,0x20,0x40)", "Cd"},
		{[]string{"0201 d041080a 00000000", "0101 0002", "0105 01000000"}, "PcieRoot(0x0)/Pci(0x2,0x0)/Ctrl(0x1)", ""},
		{[]string{"0201 d0410501 00000000"}, "Acpi(PNP0105,0x0)", ""},
		{[]string{"0201 d0410105 01000000", "030a" + aGUID, "0103 0b000000 0010000000000000 ff1f000000000000"}, "Serial(0x1)/VenMsg(7C04A583-9E3E-4F1C-AD65-E05268D0B4D1)/MemoryMapped(0xB,0x1000,0x1FFF)", ""},
		{[]string{"0104" + aGUID + "abcd"}, "VenHw(7C04A583-9E3E-4F1C-AD65-E05268D0B4D1,ABCD)", ""},
		{[]string{"0403" + aGUID, "0405" + aGUID, "0408 00000000 0010000000000000 0020000000000000"}, "VenMedia(7C04A583-9E3E-4F1C-AD65-E05268D0B4D1)/Media(7C04A583-9E3E-4F1C-AD65-E05268D0B4D1)/Offset(0x1000,0x2000)", ""},
		{[]string{"0301 01 00 0300"}, "Ata(Secondary,Master,0x3)", "Hdd"},
		{[]string{"0301 00 01 0300"}, "Ata(Primary,Slave,0x3)", "Hdd"},
		{[]string{"030f 3412 7856 08 06 50"}, "UsbClass(0x1234,0x5678,0x8,0x6,0x50)", "Usb"},
		{[]string{"0310 0100 3412 7856" + hex.EncodeToString(wide16("S1"))}, `UsbWwid(0x1234,0x5678,0x1,"S1")`, "Usb"},
		{[]string{"0311 02", "0319 01 02", "031a 01", "031d 01"}, "Unit(0x2)/UFS(0x1,0x2)/SD(0x1)/eMMC(0x1)", "Hdd"},
		{[]string{"0317 01000000 0102030405060708"}, "NVMe(0x1,08-07-06-05-04-03-02-01)", "Hdd"},
		{[]string{"0314 6400", "030b 525400123456" + strings.Repeat("00", 26) + "01", "0318" + hex.EncodeToString([]byte("http://b/x.efi"))}, "Vlan(100)/MAC(525400123456,0x1)/Uri(http://b/x.efi)", "UefiHttp"},
		{[]string{"030c 01020304 05060708 0000 0000 0600 01"}, "IPv4(5.6.7.8,TCP,Static,1.2.3.4)", ""},
		{[]string{"0501 0200 0100" + hex.EncodeToString([]byte("Disk\x00"))}, "BBS(HD,Disk,0x1)", "Hdd"},
		{[]string{"0501 8000 0100 00"}, "BBS(0x80,,0x1)", ""},
		{[]string{gpt, "7f01", "0101 0002"}, "HD(1,GPT,7C04A583-9E3E-4F1C-AD65-E05268D0B4D1,0x800,0x3F800),Pci(0x2,0x0)", "Hdd"},
		// What has no text of its own, and what is too short for it.
		{[]string{"0313 0001"}, "Msg(19,0001)", ""},
		{[]string{"0101 00"}, "HardwarePath(1,00)", "Hdd"},
		{[]string{"0202"}, "AcpiPath(2)", ""},
		{[]string{"0401 01", "0502", "0901 ff"}, "MediaPath(1,01)/BbsPath(2)/Path(9,1,FF)", "Hdd"},
		{nil, "", ""},
	} {
		o := Parse(load(active, "x", pathOf(row.nodes...)))
		if o.Path != row.text || o.Target != row.target {
			t.Errorf("%q: %q, %q; want %q, %q", row.nodes, o.Path, o.Target, row.text, row.target)
		}
	}
}

func TestADriveIsOpticalWhereItsDescriptionSaysSo(t *testing.T) {
	t.Parallel()
	for description, want := range map[string]generated.BootTarget{
		"UEFI QEMU DVD-ROM QM00003": generated.BootTargetCd, "UEFI Virtual CDROM": generated.BootTargetCd, "UEFI QEMU HARDDISK QM00001": generated.BootTargetHdd,
	} {
		if got := Parse(load(active, description, pathOf("0312 0000 ffff 0000"))).Target; got != want {
			t.Errorf("%q is %s", description, got)
		}
	}
}

func TestWhatCannotBeReadIsLeftOut(t *testing.T) {
	t.Parallel()
	good := load(active|hidden, "good", pathOf("0101 0002"))
	named := Option{Active: true, Hidden: true, Description: "good"}
	for name, row := range map[string]struct {
		value []byte
		want  Option
	}{
		"nothing":                     {nil, Option{}},
		"half a header":               {good[:5], Option{}},
		"a description without end":   {good[:12], Option{}},
		"paths that are too long":     {good[:len(good)-1], named},
		"a path without end":          {load(active|hidden, "good", pathOf("0101 0002")[:6]), named},
		"a node without length":       {load(active|hidden, "good", []byte{1, 1, 3, 0, 0x7f, 0xff, 4, 0}), named},
		"a node longer than there is": {load(active|hidden, "good", []byte{1, 1, 9, 0, 0x7f, 0xff, 4, 0}), named},
		"no path":                     {load(active|hidden, "good", nil), named},
	} {
		if diff := cmp.Diff(row.want, Parse(row.value)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestTextsAreBoundedAndCanBeShown(t *testing.T) {
	t.Parallel()
	o := Parse(load(active, "\x1b[2J\u202e\u0000", nil))
	if o.Description != "\ufffd[2J\ufffd" {
		t.Errorf("the description is %q", o.Description)
	}
	half := load(active, "a", nil)
	copy(half[6:], []byte{0x00, 0xd8}) // half a surrogate pair
	if o := Parse(half); o.Description != "\ufffd" {
		t.Errorf("the description is %q", o.Description)
	}
	long := Parse(load(active, strings.Repeat("ü", MostDescription), pathOf("0404"+hex.EncodeToString(wide16(strings.Repeat("y", MostPath+1))))))
	if long.Description != strings.Repeat("ü", MostDescription) || long.Path != strings.Repeat("y", MostPath-1)+"…" {
		t.Errorf("they are %q and %q", long.Description, long.Path)
	}
	many := bytes.Repeat(pathOf("0318")[:4], 10_000)
	if o := Parse(load(active, "many", append(many, 0x7f, 0xff, 4, 0))); utf8.RuneCountInString(o.Path) != MostPath || !strings.HasPrefix(o.Path, "Uri()/Uri()/") {
		t.Errorf("the path is %q", o.Path)
	}
}

func FuzzParse(f *testing.F) {
	values, _ := ovmf(f)
	for _, v := range values {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o := Parse(b)
		if utf8.RuneCountInString(o.Description) > MostDescription || utf8.RuneCountInString(o.Path) > MostPath {
			t.Errorf("it is too long: %+v", o)
		}
		for _, r := range o.Description + o.Path {
			if !unicode.IsPrint(r) {
				t.Errorf("%q cannot be shown", r)
			}
		}
		if o.Target != "" && o.Path == "" {
			t.Errorf("it has a target and no path: %+v", o)
		}
	})
}
