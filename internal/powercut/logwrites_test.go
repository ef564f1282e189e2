package powercut

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// logOf lays out a log of sectors of 512 bytes, as the documentation of the format has it.
func logOf(count uint64, parts ...[]byte) []byte {
	super := binary.LittleEndian.AppendUint64(nil, logMagic)
	super = binary.LittleEndian.AppendUint64(super, 1)
	super = binary.LittleEndian.AppendUint64(super, count)
	super = binary.LittleEndian.AppendUint32(super, 512)
	return append(sector(super), bytes.Join(parts, nil)...)
}

func sector(b []byte) []byte { return append(bytes.Clone(b), make([]byte, 512-len(b))...) }

func entry(first, count uint64, flags Flags, note uint64) []byte {
	var b []byte
	for _, v := range []uint64{first, count, uint64(flags), note} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return sector(b)
}

func filled(n int, with byte) []byte { return bytes.Repeat([]byte{with}, n) }

const disk = 8 * 512

func TestALogIsReadEntryByEntry(t *testing.T) {
	t.Parallel()
	log := logOf(5,
		entry(2, 2, 0, 0), filled(1024, 'a'),
		entry(0, 0, Flush, 0),
		entry(7, 1, FUA, 0), filled(512, 'b'),
		entry(1, 3, Discard, 0),
		entry(0, 0, Mark, 4),
		[]byte("what comes after the counted entries is not read"),
	)
	got, err := ReadLog(bytes.NewReader(log), disk)
	if err != nil {
		t.Fatal(err)
	}
	want := &Log{SectorSize: 512, Entries: []Entry{
		{Offset: 1024, Length: 1024, Data: filled(1024, 'a')},
		{Flags: Flush},
		{Flags: FUA, Offset: 7 * 512, Length: 512, Data: filled(512, 'b')},
		{Flags: Discard, Offset: 512, Length: 3 * 512},
		{Flags: Mark},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n, err := Logged(bytes.NewReader(log)); n != 5 || err != nil {
		t.Errorf("logged are %d, %v", n, err)
	}
}

func TestALogThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	changed := func(at int, to byte) []byte {
		log := logOf(1, entry(0, 1, 0, 0), filled(512, 'a'))
		log[at] = to
		return log
	}
	for name, test := range map[string]struct {
		log  []byte
		says string
	}{
		"nothing":              {nil, "read its head"},
		"another beginning":    {changed(0, 0), "it begins with"},
		"another version":      {changed(8, 2), "its version is 2"},
		"too many entries":     {changed(20, 1), "entries"},
		"odd sectors":          {changed(25, 3), "its sectors have 768 bytes"},
		"no sectors":           {changed(25, 0), "its sectors have 0 bytes"},
		"unknown flags":        {logOf(1, entry(0, 1, 1<<9, 0)), "flags 0x200"},
		"beyond the disk":      {logOf(1, entry(8, 1, 0, 0)), "the disk has 8"},
		"longer than the disk": {logOf(1, entry(0, 9, 0, 0)), "the disk has 8"},
		"far beyond the disk":  {logOf(1, entry(1<<63, 1<<63, 0, 0)), "the disk has 8"},
		"a mark that is long":  {logOf(1, entry(0, 0, Mark, 481)), "a mark of 481 bytes"},
		"no entry":             {logOf(1), "entry 1 of 1"},
		"no data":              {logOf(1, entry(0, 1, 0, 0), filled(511, 'a')), "what was written"},
	} {
		_, err := ReadLog(bytes.NewReader(test.log), disk)
		if !errors.Is(err, ErrLog) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v; it should say %q", name, err, test.says)
		}
	}
}

func TestARequestIsDoneToAnImage(t *testing.T) {
	t.Parallel()
	image := filled(disk, '.')
	Entry{Offset: 512, Length: 1024, Data: filled(1024, 'a')}.Apply(image)
	Entry{Offset: 1024, Length: 512, Data: filled(512, 'b')}.Apply(image)
	Entry{Flags: Discard, Offset: 0, Length: disk}.Apply(image)
	want := filled(disk, '.')
	copy(want[512:], filled(512, 'a'))
	copy(want[1024:], filled(512, 'b'))
	if !bytes.Equal(image, want) {
		t.Error(cmp.Diff(want, image))
	}
}

func TestARequestIsDividedAtTheBlocksOfTheDisk(t *testing.T) {
	t.Parallel()
	data := filled(2048, 'a')
	got := slices.Collect(Entry{Flags: FUA, Offset: 512, Length: 2048, Data: data}.Blocks(1024))
	want := []Entry{
		{Flags: FUA, Offset: 512, Length: 512, Data: data[:512]},
		{Flags: FUA, Offset: 1024, Length: 1024, Data: data[:1024]},
		{Flags: FUA, Offset: 2048, Length: 512, Data: data[:512]},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for range (Entry{Flags: Flush}).Blocks(1024) {
		t.Error("a flush has blocks")
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(logOf(3, entry(2, 2, 0, 0), filled(1024, 'a'), entry(0, 0, Flush, 0), entry(1, 3, Discard, 0)))
	f.Add(logOf(1, entry(0, 0, Mark, 4)))
	f.Fuzz(func(t *testing.T, log []byte) {
		l, err := ReadLog(bytes.NewReader(log), disk)
		if err != nil {
			if !errors.Is(err, ErrLog) {
				t.Errorf("%v is not ErrLog", err)
			}
			return
		}
		image := make([]byte, disk)
		for _, e := range l.Entries {
			e.Apply(image)
			for b := range e.Blocks(4096) {
				b.Apply(image)
			}
		}
	})
}
