// Package keys has the secure boot keys that a machine can be given by name. There is one set, [Microsoft]: the
// certificates of 2011, which have expired and which what was signed until 2026 chains to, and those of 2023 beside
// them. The files are Microsoft's, unchanged, with their licence (microsoft/README.md).
package keys

import (
	"embed"
	"fmt"

	"biosv/smm/variable/auth"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
	"biosv/smm/variable/siglist"
)

//go:embed microsoft/LICENSE microsoft/pk microsoft/kek microsoft/db microsoft/updates/DBXUpdate.bin
var files embed.FS

// owner is the SignatureOwner that Microsoft gives its own keys.
var owner = efi.MustGUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")

// Microsoft gives Microsoft's default set: its platform key for the machines of others, whose private half only
// Microsoft has, both key exchange keys, the five certificates of db, and dbx as it was published in July 2026.
func Microsoft() (k services.Keys, err error) {
	k.Vendor = true
	for _, one := range []struct {
		dir string
		to  *[]byte
	}{{"pk", &k.PK}, {"kek", &k.KEK}, {"db", &k.DB}} {
		if *one.to, err = certificates("microsoft/" + one.dir); err != nil {
			return services.Keys{}, fmt.Errorf("read Microsoft's keys: %w", err)
		}
	}
	update, err := files.ReadFile("microsoft/updates/DBXUpdate.bin")
	if err == nil {
		_, k.DBX, err = auth.Parse(update)
	}
	if err != nil {
		return services.Keys{}, fmt.Errorf("read Microsoft's dbx: %w", err)
	}
	return k, nil
}

// certificates gives the certificates of a folder as a signature database, each in a list of its own since their
// sizes differ.
func certificates(dir string) (database []byte, err error) {
	entries, err := files.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		der, err := files.ReadFile(dir + "/" + e.Name())
		if err != nil {
			return nil, err
		}
		database = siglist.Append(database, siglist.New(siglist.X509, owner, der))
	}
	return database, nil
}
