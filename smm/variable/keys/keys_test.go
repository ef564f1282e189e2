package keys

import (
	"slices"
	"testing"

	"biosv/smm/variable/siglist"
)

func TestMicrosoftsSetHasTheKeysOf2011AndOf2023(t *testing.T) {
	t.Parallel()
	k, err := Microsoft()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		database []byte
		subjects []string
	}{
		"PK":  {k.PK, []string{"Windows OEM Devices PK"}},
		"KEK": {k.KEK, []string{"Microsoft Corporation KEK CA 2011", "Microsoft Corporation KEK 2K CA 2023"}},
		"db":  {k.DB, []string{"Microsoft Corporation UEFI CA 2011", "Microsoft Windows Production PCA 2011", "Microsoft Option ROM UEFI CA 2023", "Microsoft UEFI CA 2023", "Windows UEFI CA 2023"}},
	} {
		lists, err := siglist.Parse(c.database)
		if err != nil {
			t.Fatal(err)
		}
		var subjects []string
		for _, cert := range siglist.Certificates(lists) {
			subjects = append(subjects, cert.Subject.CommonName)
		}
		slices.Sort(subjects)
		slices.Sort(c.subjects)
		if !slices.Equal(subjects, c.subjects) {
			t.Errorf("%s has %q", name, subjects)
		}
	}
	if lists, err := siglist.Parse(k.DBX); err != nil || siglist.Count(lists) < 400 {
		t.Errorf("dbx has %d signatures: %v", siglist.Count(lists), err)
	}
}
