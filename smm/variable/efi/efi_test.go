package efi

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/quick"
)

func TestAGUIDLiesInMemoryAsTheSpecificationHasIt(t *testing.T) {
	t.Parallel()
	g, err := ParseGUID("8BE4DF61-93CA-11D2-AA0D-00E098032B8C")
	want := GUID{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c} // section 3.3
	if err != nil || g != want || g.String() != "8be4df61-93ca-11d2-aa0d-00e098032b8c" {
		t.Errorf("%x %s %v", g[:], g, err)
	}
	for _, bad := range []string{"", "8be4df61", "{8be4df61-93ca-11d2-aa0d-00e098032b8c}", "urn:uuid:8be4df61-93ca-11d2-aa0d-00e098032b8c", "8be4df6193ca11d2aa0d00e098032b8c", "8be4df61-93ca-11d2-aa0d-00e098032b8g"} {
		if _, err := ParseGUID(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestEveryNameComesBackAsItWas(t *testing.T) {
	t.Parallel()
	names := [][]byte{{}, []byte("B\x00o\x00o\x00t\x00"), {0x3d, 0xd8, 0x00, 0xde}, {0x3d, 0xd8}, {0x00, 0xde, 0x3d, 0xd8}, {0x3d, 0xd8, 'a', 0}, {0x3d, 0xd8, 0x3d, 0xd8, 0x00, 0xde}, {0xff, 0xff, 0xfd, 0xff}}
	check := func(b []byte) bool {
		name, err := DecodeName(b)
		if err != nil {
			return true
		}
		again, err := UnescapeName(EscapeName(name))
		return err == nil && again == name && bytes.Equal(EncodeName(name), b) && NameSize(name) == len(b)
	}
	for _, b := range names {
		if _, err := DecodeName(b); err != nil || !check(b) {
			t.Errorf("%x: %v", b, err)
		}
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
	for _, b := range [][]byte{{'a'}, {'a', 0, 0, 0}} {
		if name, err := DecodeName(b); err == nil {
			t.Errorf("%x was taken as %q", b, name)
		}
	}
}

func TestTimeStampsAreOrderedByAllTheirParts(t *testing.T) {
	t.Parallel()
	row := []Time{{}, NewTime(1, 1, 1, 0, 0, 0), NewTime(255, 12, 31, 23, 59, 59), NewTime(256, 1, 1, 0, 0, 0), NewTime(2021, 1, 1, 0, 0, 0), NewTime(2021, 1, 1, 0, 0, 1),
		NewTime(2021, 1, 1, 0, 1, 0), NewTime(2021, 1, 1, 1, 0, 0), NewTime(2021, 1, 2, 0, 0, 0), NewTime(2021, 2, 1, 0, 0, 0), NewTime(2022, 1, 1, 0, 0, 0)}
	for i, a := range row {
		for j, b := range row {
			if a.After(b) != (i > j) {
				t.Errorf("%s after %s is %v", a, b, a.After(b))
			}
		}
	}
}

func TestARefusalBearsItsStatus(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("set it: %w", Refuse(SecurityViolation, "%s is not yours", "PK"))
	if !errors.Is(err, SecurityViolation) || errors.Is(err, NotFound) || StatusOf(err) != 0x800000000000001a {
		t.Errorf("%v: %v", err, StatusOf(err))
	}
	if StatusOf(nil) != Success || StatusOf(errors.New("the disk is full")) != DeviceError {
		t.Error("errors without a status are device errors")
	}
}

func TestAttributesAreSpokenAsTheSpecificationDoes(t *testing.T) {
	t.Parallel()
	for a, want := range map[Attributes]string{0: "none", 0x27: "NV,BS,RT,AT", 0x100: "0x100", 0x4f: "NV,BS,RT,HR,APPEND"} {
		if a.String() != want {
			t.Errorf("%#x is %q", uint32(a), a)
		}
	}
}

// A name that people wrote is refused or comes back as it was, whatever it is.
func FuzzUnescapeName(f *testing.F) {
	for _, text := range []string{"Boot0001", `with \\ and \u0001`, `\ud83d`, `\ud83d\ude00`, "\xed\xa0\xbd", `\u00`, `\`, "Grüße 😀", "\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := UnescapeName(text)
		if err != nil {
			return
		}
		if again, err := UnescapeName(EscapeName(name)); err != nil || again != name {
			t.Errorf("%q is %q, and comes back as %q: %v", text, name, again, err)
		}
		raw := EncodeName(name)
		if decoded, err := DecodeName(raw); err != nil || decoded != name || NameSize(name) != len(raw) {
			t.Errorf("%q is %x, which is %q: %v", name, raw, decoded, err)
		}
	})
}
