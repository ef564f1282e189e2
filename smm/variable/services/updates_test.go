package services

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"biosv/smm/variable/efi"
	"biosv/smm/variable/siglist"
)

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const microsoft = "../keys/microsoft/"

// Microsoft's signed updates, as they are given to every machine: appends, signed by certificates below the key
// exchange key of 2011, which have expired.
func TestMicrosoftsUpdatesAreTakenByWhoHasItsKey(t *testing.T) {
	t.Parallel()
	appends := nvBSRTAT | efi.AppendWrite
	for _, u := range []struct {
		file  string
		key   Key
		first int // signatures that it adds
	}{
		{"DBXUpdate.bin", keyDBX, 443}, {"DBUpdate2024.bin", keyDB, 1}, {"DBUpdate3P2023.bin", keyDB, 1},
	} {
		t.Run(u.file, func(t *testing.T) {
			t.Parallel()
			update := read(t, microsoft+"updates/"+u.file)
			kek := siglist.New(siglist.X509, efi.GUID{}, read(t, microsoft+"kek/MicCorKEKCA2011_2011-06-24.der"))
			pk := siglist.New(siglist.X509, efi.GUID{}, read(t, microsoft+"pk/WindowsOEMDevicesPK.der"))
			m := Memory{}
			s := Services{State: m, Phase: Boot, Limits: TestLimits}
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			if err := s.Enroll(Keys{PK: siglist.Append(nil, pk), KEK: siglist.Append(nil, kek)}, efi.NewTime(2026, 1, 1, 0, 0, 0)); err != nil {
				t.Fatal(err)
			}
			s.Phase = Runtime
			for range 2 { // an append is taken again, and adds nothing then
				if err := s.SetVariable(u.key, appends, update); err != nil {
					t.Fatal(err)
				}
				lists, err := siglist.Parse(m[u.key].Data)
				if n := siglist.Count(lists); err != nil || n != u.first {
					t.Errorf("%s has %d signatures, not %d: %v", u.key.Name, n, u.first, err)
				}
			}
			if err := refusal(s.SetVariable(u.key, nvBSRTAT, update), "SECURITY_VIOLATION"); err != nil {
				t.Errorf("as a replacement: %v", err)
			}
			other := map[Key]Key{keyDB: keyDBX, keyDBX: keyDB}[u.key]
			if err := refusal(s.SetVariable(other, appends, update), "SECURITY_VIOLATION"); err != nil {
				t.Errorf("to %s: %v", other.Name, err)
			}
			update[len(update)-1] ^= 1
			if err := refusal(s.SetVariable(u.key, appends, update), "SECURITY_VIOLATION"); err != nil {
				t.Errorf("changed: %v", err)
			}
			update[len(update)-1] ^= 1
			if err := s.Enroll(Keys{PK: siglist.Append(nil, pk), KEK: siglist.Append(nil, siglist.New(siglist.X509, efi.GUID{}, read(t, microsoft+"kek/microsoft_corporation_kek_2k_ca_2023.der")))}, efi.NewTime(2026, 1, 1, 0, 0, 0)); err != nil {
				t.Fatal(err)
			}
			if err := refusal(s.SetVariable(u.key, appends, update), "SECURITY_VIOLATION"); err != nil {
				t.Errorf("where only the key of 2023 is: %v", err)
			}
		})
	}
}

// refusal says in which way a call did not end with a status and a reason.
func refusal(err error, want string) error {
	var e *efi.Error
	if got := efi.StatusOf(err); got.String() != "EFI_"+want || !errors.As(err, &e) || e.Reason == "" {
		return fmt.Errorf("it gave %v: %v", got, err)
	}
	return nil
}
