package auth

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"biosv/smm/variable/efi"
	"biosv/smm/variable/siglist"
)

const (
	vectors = "../services/testdata/vectors/"
	all     = efi.NonVolatile | efi.BootServiceAccess | efi.RuntimeAccess | efi.TimeBasedAuthenticated
)

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// signed reads a vector of a write to db.
func signed(t testing.TB, file string) (s *SignedData, message []byte) {
	t.Helper()
	d, value, err := Parse(read(t, vectors+file))
	if err != nil {
		t.Fatal(err)
	}
	if s, err = ParseSignedData(d.CertData); err != nil {
		t.Fatal(err)
	}
	return s, Message("db", efi.ImageSecurityDatabase, all, d.TimeStamp, value)
}

func certificates(t testing.TB, file string) []*x509.Certificate {
	t.Helper()
	lists, err := siglist.Parse(read(t, vectors+file))
	if err != nil {
		t.Fatal(err)
	}
	return siglist.Certificates(lists)
}

func TestADescriptorIsWrittenAsItWasRead(t *testing.T) {
	t.Parallel()
	b := read(t, vectors+"kek-db-db2-2022.auth")
	d, value, err := Parse(b)
	if err != nil || d.TimeStamp != efi.NewTime(2022, 1, 1, 0, 0, 0) || !bytes.Equal(value, read(t, vectors+"db2.esl")) {
		t.Fatal(d.TimeStamp, err)
	}
	if !bytes.Equal(append(d.Append(nil), value...), b) {
		t.Error("it is written otherwise")
	}
}

func TestVerifyTakesEachFormThatIsAllowed(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"", "-wrapped", "-sha384", "-sha512", "-sha512-wrapped", "-signedattributes"} {
		s, message := signed(t, "kek-db-db2-2022"+form+".auth")
		if err := s.Verify(message); err != nil {
			t.Errorf("%q: %v", form, err)
		}
		for i := range message {
			message[i] ^= 0x40
			if err := s.Verify(message); !errors.Is(err, efi.SecurityViolation) {
				t.Errorf("%q: byte %d was changed: %v", form, i, err)
			}
			message[i] ^= 0x40
		}
	}
}

func TestEveryBitOfASignatureCounts(t *testing.T) {
	t.Parallel()
	d, value, err := Parse(read(t, vectors+"kek-db-db2-2022-signedattributes.auth"))
	if err != nil {
		t.Fatal(err)
	}
	message := Message("db", efi.ImageSecurityDatabase, all, d.TimeStamp, value)
	trusted := certificates(t, "kek.esl")
	taken := 0
	for i := range d.CertData {
		d.CertData[i] ^= 1
		if s, err := ParseSignedData(d.CertData); err == nil && s.Verify(message) == nil && s.ChainsTo(trusted) {
			taken++
			t.Logf("byte %d of %d does not count", i, len(d.CertData))
		}
		d.CertData[i] ^= 1
	}
	// The NULL parameters of two algorithm identifiers, which nothing reads.
	if taken > 8 {
		t.Errorf("%d bytes do not count", taken)
	}
}

func TestWhoseSignatureItIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, trusted string
		chains, made  bool
	}{
		{"kek-db-db2-2022.auth", "kek.esl", true, true},
		{"kek-db-db2-2022.auth", "stranger.esl", false, false},
		{"kek-db-db2-2022.auth", "kekca.esl", false, false},
		{"kekleaf-db-db2-2022-chain.auth", "kekca.esl", true, false},
		{"kekleaf-db-db2-2022-mid.auth", "kekca.esl", true, false},
		{"kekleaf-db-db2-2022-nochain.auth", "kekca.esl", false, false},
		{"kekold-db-db2-2022.auth", "kekca.esl", true, false},
		{"underleaf-db-db2-2022.auth", "kekca.esl", false, false},
	} {
		s, _ := signed(t, c.file)
		trusted := certificates(t, c.trusted)
		if s.ChainsTo(trusted) != c.chains || s.MadeWith(trusted[0]) != c.made {
			t.Errorf("%s to %s: chains %v, made with %v", c.file, c.trusted, s.ChainsTo(trusted), s.MadeWith(trusted[0]))
		}
	}
}

func TestParseSignedDataSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]struct {
		status efi.Status
		says   string
	}{
		"kek-db-db2-2022-sha1.auth":       {efi.InvalidParameter, "digest algorithm 1.3.14.3.2.26"},
		"kek-db-db2-2022-sha224.auth":     {efi.InvalidParameter, "digest algorithm 2.16.840.1.101.3.4.2.4"},
		"ec-db-db2-2022.auth":             {efi.InvalidParameter, "signature algorithm 1.2.840.10045.4.3.2"},
		"kek-db-db2-2022-embedded.auth":   {efi.SecurityViolation, "embeds content"},
		"kek-db-db2-2022-nocerts.auth":    {efi.SecurityViolation, "certificate of its signer is not in it"},
		"kek-db-db2-2022-twosigners.auth": {efi.SecurityViolation, "exactly one signer"},
		"garbage-db-db1-2021.auth":        {efi.SecurityViolation, "digestAlgorithms"},
		"unsigned-db-db1-2021.auth":       {efi.SecurityViolation, "not one DER sequence"},
	} {
		d, _, err := Parse(read(t, vectors+file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = ParseSignedData(d.CertData); !errors.Is(err, want.status) || !strings.Contains(err.Error(), want.says) {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := ParseSignedData(make([]byte, MaxCertData+1)); !errors.Is(err, efi.SecurityViolation) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(vectors + "*.auth")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		f.Add(read(f, file))
	}
	trusted := certificates(f, "keks.esl")
	f.Fuzz(func(t *testing.T, b []byte) {
		d, value, err := Parse(b)
		if err != nil {
			if !errors.Is(err, efi.SecurityViolation) {
				t.Error(err)
			}
			return
		}
		if !bytes.Equal(append(d.Append(nil), value...), b) {
			t.Error("it is written otherwise")
		}
		s, err := ParseSignedData(d.CertData)
		if err != nil {
			if st := efi.StatusOf(err); st != efi.SecurityViolation && st != efi.InvalidParameter {
				t.Error(err)
			}
			return
		}
		_ = s.Verify(value)
		s.ChainsTo(trusted)
		if o, err := s.Owner(); err == nil {
			if by, err := s.IsBy(o); err != nil || !by {
				t.Error("a signer does not know itself again", err)
			}
		}
	})
}
