package flash

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"biosv/smm/variable/auth"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
)

func debian(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("/usr/share/OVMF/" + name)
	if err != nil {
		t.Fatalf("%v (Debian package ovmf)", err)
	}
	return b
}

func render(t testing.TB, variables ...Variable) []byte {
	t.Helper()
	b, err := Render(variables)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var vendor = efi.MustGUID("5e3f2d1c-8b7a-4f6e-9d5c-1a2b3c4d5e6f")

func nv(name, data string) Variable {
	return Variable{Key: services.Key{Vendor: vendor, Name: name}, Variable: services.Variable{Attributes: efi.NonVolatile | efi.BootServiceAccess, Data: []byte(data)}}
}

func TestRenderOfNothingIsDebiansEmptyStore(t *testing.T) {
	t.Parallel()
	if !bytes.Equal(render(t), debian(t, "OVMF_VARS_4M.fd")) {
		t.Error("it differs from OVMF_VARS_4M.fd")
	}
}

func TestStoresOfDebianComeBackWithoutLoss(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]struct {
		variables, pk int // bytes of PK
		first         string
	}{
		"OVMF_VARS_4M.fd":          {0, 0, ""},
		"OVMF_VARS_4M.ms.fd":       {30, 1005, "MTC"},
		"OVMF_VARS_4M.snakeoil.fd": {30, 935, "MTC"},
		"OVMF_VARS.ms.fd":          {30, 1005, "MTC"}, // of 128 KiB
	} {
		s, err := Parse(debian(t, file))
		if err != nil || len(s.Notes) != 0 || len(s.Variables) != want.variables {
			t.Errorf("%s: %d variables, %q, %v", file, len(s.Variables), s.Notes, err)
			continue
		}
		pk := 0
		for _, v := range s.Variables {
			if v.Key == (services.Key{Vendor: efi.GlobalVariable, Name: "PK"}) {
				pk = len(v.Data)
			}
		}
		if pk != want.pk || want.variables > 0 && s.Variables[0].Name != want.first {
			t.Errorf("%s: PK has %d bytes", file, pk)
		}
		again, err := Parse(render(t, s.Variables...))
		if err != nil || len(again.Notes) != 0 {
			t.Errorf("%s: %v, %v", file, again, err)
		}
		if d := cmp.Diff(s.Variables, again.Variables); d != "" {
			t.Errorf("%s: %s", file, d)
		}
	}
}

func TestWhatAVariableKeepsComesBack(t *testing.T) {
	t.Parallel()
	owner := auth.Owner{1, 2, 3}
	odd := nv("\xed\xa0\xbd", "") // half a surrogate pair, and no data
	full := Variable{
		Key:            services.Key{Vendor: vendor, Name: "Grüße"},
		Variable:       services.Variable{Attributes: 0x27, Data: []byte("value"), TimeStamp: efi.NewTime(2022, 2, 3, 4, 5, 6), Owner: &owner},
		MonotonicCount: 1 << 40, PublicKeyIndex: 7,
	}
	other := full
	other.Name, other.Owner = "Two", &auth.Owner{9}
	in := []Variable{nv("A", "1"), odd, full, other}
	s, err := Parse(render(t, in...))
	if err != nil || len(s.Notes) != 0 {
		t.Fatal(s, err)
	}
	if d := cmp.Diff(in, s.Variables); d != "" {
		t.Error(d)
	}
}

func TestRenderRefusesWhatFlashDoesNotKeep(t *testing.T) {
	t.Parallel()
	volatile := nv("A", "1")
	volatile.Attributes = efi.BootServiceAccess
	largest := Capacity - services.Overhead - 2 - 2
	for name, c := range map[string]struct {
		v    Variable
		says string
	}{
		"a volatile variable":     {volatile, "is none that flash keeps"},
		"a variable without name": {nv("", "1"), "is none that flash keeps"},
		"one that is too large":   {nv("A", strings.Repeat("x", largest+1)), "takes"},
	} {
		if _, err := Render([]Variable{c.v}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := render(t, nv("A", strings.Repeat("x", largest)))
	if s, err := Parse(b); err != nil || len(s.Variables) != 1 || len(s.Variables[0].Data) != largest || len(s.Notes) != 0 {
		t.Error("a full store does not come back", err)
	}
}

// The store of the variables A and B that is damaged. A variable's name of one letter has 4 bytes, so A begins at first
// and its data at first+64.
const (
	first  = volumeHeader + storeHeader
	second = first + 68 // A has 60 of header, 4 of name, 1 of data and 3 to the next word
)

func undamaged(t testing.TB) []byte { return render(t, nv("A", "1"), nv("B", "2")) }

// damages are the ways in which it is damaged, and what is read then.
var damages = map[string]struct {
	damage func(b []byte) []byte
	want   string // names and data, and what the note says after ~, or what the error says after !
}{
	"none":                           {func(b []byte) []byte { return b }, "A=1 B=2"},
	"no bytes":                       {func(b []byte) []byte { return nil }, "!the file has 0 bytes"},
	"truncated":                      {func(b []byte) []byte { return b[:len(b)/2] }, "!at byte 32: the firmware volume has 540672 bytes, and the file 270336"},
	"too long":                       {func(b []byte) []byte { return append(b, 0xff) }, "!at byte 32"},
	"garbage":                        {func(b []byte) []byte { return bytes.Repeat([]byte("garbage!"), Size/8) }, "!no firmware volume begins here"},
	"erased":                         {func(b []byte) []byte { return bytes.Repeat([]byte{0xff}, Size) }, "!no firmware volume begins here"},
	"a volume of code":               {set(16, 0), "!holds no variables"},
	"the volume's checksum":          {set(50, 0), "!at byte 50: the checksum"},
	"the volume's blocks":            {set(56, 0), "!at byte 50: the checksum"},
	"the volume's header":            {set(48, 0, 0), "!at byte 48"},
	"another store":                  {set(volumeHeader, 0), "!no variable store begins here"},
	"a store without authentication": {func(b []byte) []byte { copy(b[volumeHeader:], plainStore[:]); return b }, "!without authenticated variables"},
	"a store that is not formatted":  {set(volumeHeader+20, 0xff), "!not formatted"},
	"a store that is not healthy":    {set(volumeHeader+21, 0xfc), "!and healthy"},
	"a store beyond the volume":      {set(volumeHeader+16, 0xff, 0xff, 0xff, 0x7f), "!the variable store has 2147483647 bytes"},
	"a store of nothing":             {set(volumeHeader+16, 0, 0, 0, 0), "!the variable store has 0 bytes"},

	"deleted":                              {set(first+2, 0x3d&0xfd), "B=2"},
	"deleted in transition":                {set(first+2, 0x3c), "B=2"},
	"in transition alone":                  {set(first+2, 0x3e), "A=1 B=2"},
	"in transition, and the new there":     {func(b []byte) []byte { return set(second+60, 'A')(set(first+2, 0x3e)(b)) }, "A=2"},
	"in transition, and the new not ended": {func(b []byte) []byte { return set(second+60, 'A')(set(second+2, headerValid)(set(first+2, 0x3e)(b))) }, "A=1 ~was never written to its end"},
	"twice in transition":                  {func(b []byte) []byte { return set(second+60, 'A')(set(second+2, 0x3e)(set(first+2, 0x3e)(b))) }, "A=2"},
	"twice":                                {func(b []byte) []byte { return set(second+60, 'A')(b) }, "A=1 ~is there twice"},
	"never written to its end":             {set(second+2, headerValid), "A=1 ~was never written to its end"},
	"a header that was being written":      {func(b []byte) []byte { return header(b, second+68) }, "A=1 B=2"},
	"a name beyond the store":              {set(first+36, 0xff, 0xff, 0xff, 0x7f), "!the variable at byte 100: its name has 2147483647 bytes"},
	"data beyond the store":                {set(first+40, 0xff, 0xff, 0xff, 0x7f), "!the variable at byte 100"},
	"sizes that overflow together":         {set(first+36, 0xf0, 0xff, 0xff, 0xff, 0xf0, 0xff, 0xff, 0xff), "!the variable at byte 100"},
	"a name of no letters":                 {set(first+36, 2), "!is empty or does not end"},
	"a name of half a letter":              {set(first+36, 3), "!is empty or does not end"},
	"a name that does not end":             {set(first+62, 1, 1), "!is empty or does not end"},
	"a name that ends early":               {func(b []byte) []byte { return set(first+36, 6)(set(first+64, 0, 0)(set(first+62, 0, 0)(b))) }, "!has a NULL"},
	"full":                                 {func(b []byte) []byte { return full(b, added) }, "A=1 B=2 C="},
	"full of what was deleted":             {func(b []byte) []byte { return full(b, added&0xfd) }, "A=1 B=2"},
	"a variable that ends with the store":  {func(b []byte) []byte { full(b, added); return set(second+68+40, 0xff)(b) }, "!the variable at byte 236"},
	"no variable where one should be":      {set(second, 0), "A=1 ~at byte 168 begins something that is no variable"},
	"all variables gone":                   {set(first, 0, 0), "~at byte 100 begins something that is no variable"},

	"no working block":       {func(b []byte) []byte { copy(b[storeEnd+block:], bytes.Repeat([]byte{0xff}, 64)); return b }, "A=1 B=2"},
	"an invalid one":         {set(storeEnd+block+16, 0), "A=1 B=2"},
	"a write that completed": {func(b []byte) []byte { return write(b, 0xf8, 0xf8) }, "A=1 B=2"},
	"a write to the spare":   {func(b []byte) []byte { return write(b, 0xfc, 0xff) }, "A=1 B=2"},
	"a write from the spare": {func(b []byte) []byte { return write(b, 0xfc, 0xfd) }, "!a write was interrupted"},
	"a write that ended":     {func(b []byte) []byte { return write(b, 0xfc, 0xf9) }, "A=1 B=2"},
}

func TestParseReadsDamagedStoresAsFirmwareWould(t *testing.T) {
	t.Parallel()
	for name, c := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse(c.damage(undamaged(t)))
			if says, refused := strings.CutPrefix(c.want, "!"); refused {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("it gave %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want, note, noted := strings.Cut(c.want, "~")
			var got []string
			for _, v := range s.Variables {
				got = append(got, v.Name+"="+strings.TrimRight(string(v.Data), "\x00"))
			}
			if strings.Join(got, " ") != strings.TrimSpace(want) || noted != (len(s.Notes) == 1) || noted && !strings.Contains(s.Notes[0], note) {
				t.Errorf("it gave %q and %q", got, s.Notes)
			}
		})
	}
}

func set(at int, with ...byte) func([]byte) []byte {
	return func(b []byte) []byte {
		copy(b[at:], with)
		return b
	}
}

// full puts a third variable behind A and B, as large as there is room, whose data is empty but for its size; it has a
// state.
func full(b []byte, state byte) []byte {
	const third = second + 68
	copy(b[third:], b[second:second+64])
	b[third+2], b[third+60] = state, 'C'
	binary.LittleEndian.PutUint32(b[third+40:], storeEnd-third-64)
	clear(b[third+64 : storeEnd])
	return b
}

// header writes the beginning of a variable's header, as it is when the power goes before it ends.
func header(b []byte, at int) []byte {
	binary.LittleEndian.PutUint16(b[at:], variableStart)
	return b
}

// write puts a fault tolerant write of one record into the working block, with the states of both.
func write(b []byte, header, record byte) []byte {
	w := b[storeEnd+block+32:]
	clear(w[:80])
	w[0], w[40] = header, record
	w[24] = 1 // record
	return b
}

func TestOwnersThatCannotBeReadAreNoted(t *testing.T) {
	t.Parallel()
	private := nv("Mine", "1")
	private.Attributes = certdbAttributes
	private.Owner = &auth.Owner{5}
	db, _ := appendOwners([]Variable{private})
	private.Owner = nil
	for name, c := range map[string]struct {
		change func([]byte) []byte
		note   string
		known  bool
	}{
		"as it was":             {func(b []byte) []byte { return b }, "", true},
		"of another size":       {func(b []byte) []byte { return b[:len(b)-1] }, "does not have the size", false},
		"of no size":            {func(b []byte) []byte { return nil }, "does not have the size", false},
		"of an entry that ends": {func(b []byte) []byte { return sized(b[:20]) }, "ends within an entry", false},
		"of wrong sizes":        {func(b []byte) []byte { b[4+20] = 9; return b }, "sizes do not fit", false},
		"of certificates":       {func(b []byte) []byte { b[4+16]++; b[4+24]++; return sized(append(b, 0)) }, "certificates in place of a digest", false},
	} {
		changed := db
		changed.Data = c.change(slices.Clone(db.Data))
		s, err := Parse(render(t, private, changed))
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Variables) != 1 || (s.Variables[0].Owner != nil) != c.known || (c.note == "") != (len(s.Notes) == 0) || c.note != "" && !strings.Contains(s.Notes[0], c.note) {
			t.Errorf("%s: %v %q", name, s.Variables, s.Notes)
		}
	}
}

func sized(b []byte) []byte {
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	return b
}

// What is read is written and read again as it was. seeds are the damaged stores, each as what is otherwise in it than
// in an undamaged one: from which byte on, with which bytes, and how long it is.
func FuzzParse(f *testing.F) {
	good := undamaged(f)
	whole := debian(f, "OVMF_VARS_4M.snakeoil.fd")
	f.Add(uint32(first), whole[first:first+4096], uint32(Size), false)
	for _, c := range damages {
		b := c.damage(undamaged(f))
		from, to := 0, min(len(b), len(good))
		for from < to && b[from] == good[from] {
			from++
		}
		for to > from && b[to-1] == good[to-1] {
			to--
		}
		f.Add(uint32(from), b[from:min(to, from+4096)], uint32(len(b)), true)
	}
	f.Fuzz(func(t *testing.T, at uint32, with []byte, size uint32, mended bool) {
		file := slices.Clone(good)
		copy(file[min(at, Size):], with)
		if mended { // or nothing behind the checksum would be looked at
			file[50], file[51] = 0, 0
			binary.LittleEndian.PutUint16(file[50:], -sum16(file[:volumeHeader]))
		}
		s, err := Parse(file[:min(size, Size)])
		if err != nil {
			return
		}
		for _, v := range s.Variables {
			if !v.Attributes.Has(efi.NonVolatile) {
				return // firmware does not write such, and flash is not rendered with them
			}
		}
		again, err := Parse(render(t, s.Variables...))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(s.Variables, again.Variables, cmpopts.EquateEmpty()); d != "" {
			t.Error(d)
		}
	})
}
