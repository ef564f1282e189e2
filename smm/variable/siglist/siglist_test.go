package siglist

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"biosv/smm/variable/efi"
)

const vectors = "../services/testdata/vectors/"

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseReadsWhatEfitoolsWrote(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]struct{ signatures, certificates int }{
		"db1.esl": {1, 1}, "db12.esl": {2, 2}, "keks.esl": {3, 3}, "dbx1.esl": {1, 0}, "dbx2.esl": {1, 0},
	} {
		b := read(t, vectors+file)
		lists, err := Parse(b)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if n, c := Count(lists), len(Certificates(lists)); n != want.signatures || c != want.certificates {
			t.Errorf("%s has %d signatures and %d certificates", file, n, c)
		}
		if !bytes.Equal(Append(nil, lists...), b) {
			t.Errorf("%s is written otherwise", file)
		}
		if o := lists[0].Signatures[0].Owner.String(); o != "77fa9abd-0359-4d32-bd60-28f4e78f784b" {
			t.Errorf("%s is owned by %s", file, o)
		}
	}
}

func TestParseRefusesWhatIsNoDatabase(t *testing.T) {
	t.Parallel()
	good := Append(nil, New(SHA256, efi.GUID{}, make([]byte, 32), make([]byte, 32)))
	with := func(at int, b ...byte) []byte {
		c := slices.Clone(good)
		copy(c[at:], b)
		return c
	}
	for name, c := range map[string]struct {
		b    []byte
		says string
	}{
		"a header that ends":           {good[:27], "27 bytes are left"},
		"a list that ends":             {good[:len(good)-1], "its size is 124"},
		"bytes after the last":         {append(slices.Clone(good), 0), "at byte 124"},
		"an unknown type":              {with(0, 0), "is none that the specification defines"},
		"a size below the header's":    {with(16, 27, 0), "its size is 27"},
		"a size beyond all":            {with(16, 0xff, 0xff, 0xff, 0xff), "its size is 4294967295"},
		"a signature header":           {with(20, 1), "has none"},
		"signatures of no size":        {with(24, 0, 0, 0, 0), "have 0 bytes"},
		"signatures of an owner alone": {with(24, 16), "have 16 bytes"},
		"signatures of another size":   {with(24, 49), "have 49 bytes"},
		"half a signature":             {append(with(16, 125)[:124:124], 0), "no whole number"},
		"too many bytes":               {make([]byte, MaxSize+1), "are allowed"},
	} {
		if lists, err := Parse(c.b); err == nil || !strings.Contains(err.Error(), c.says) || lists != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAListWithoutSignaturesKeepsItsSize(t *testing.T) {
	t.Parallel()
	b := Append(nil, New(SHA256, efi.GUID{}))
	lists, err := Parse(b)
	if err != nil || len(lists) != 1 || len(b) != 28 || lists[0].Size != 48 || !bytes.Equal(Append(nil, lists...), b) {
		t.Error(lists, err)
	}
}

func TestWithoutLeavesWhatIsNew(t *testing.T) {
	t.Parallel()
	mine, other := efi.GUID{1}, efi.GUID{2}
	a, b := bytes.Repeat([]byte{'a'}, 32), bytes.Repeat([]byte{'b'}, 32)
	there := []List{New(SHA256, mine, a), New(SHA384, mine)}
	for name, c := range map[string]struct {
		add  List
		left int
	}{
		"the same":               {New(SHA256, mine, a), 0},
		"one of two":             {New(SHA256, mine, a, b), 1},
		"another owner's":        {New(SHA256, other, a), 1},
		"the same of other type": {New(X509, mine, a), 1},
		"nothing":                {New(SHA256, mine), 0},
	} {
		if n := Count(Without([]List{c.add}, there)); n != c.left {
			t.Errorf("%s: %d are left", name, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(vectors + "*.esl")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		f.Add(read(f, file))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		lists, err := Parse(b)
		if err == nil && !bytes.Equal(Append(nil, lists...), b) {
			t.Error("it is written otherwise")
		}
		Certificates(lists)
		if Count(Without(lists, lists)) != 0 {
			t.Error("something is new to itself")
		}
	})
}
