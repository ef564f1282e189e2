//go:build e2e

package interop

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"biosv/generated"
	"biosv/internal/testbed"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/flash"
)

// printed is a variable as virt-fw-vars writes it to JSON.
type printed struct {
	Name string `json:"name"`
	GUID string `json:"guid"`
	Attr uint32 `json:"attr"`
	Data string `json:"data"`
	Time string `json:"time,omitempty"`
}

// virtFirmware runs virt-fw-vars and gives the variables that it sees in a file after it.
func virtFirmware(t *testing.T, file string, args ...string) []printed {
	t.Helper()
	tool := filepath.Join(installed(t, "python", setup, "python/requirements.txt"), "bin", "virt-fw-vars")
	out := filepath.Join(t.TempDir(), "variables.json")
	if len(args) > 0 {
		if b, err := exec.Command(tool, append([]string{"--inplace", file}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("virt-fw-vars %v: %v\n%s", args, err, b)
		}
	}
	if b, err := exec.Command(tool, "--input", file, "--output-json", out).CombinedOutput(); err != nil {
		t.Fatalf("virt-fw-vars: %v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Variables []printed }
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	return sorted(list.Variables)
}

// ours gives the variables that we see in a file.
func ours(s *flash.Store) []printed {
	list := []printed{}
	for _, v := range s.Variables {
		p := printed{Name: v.Name, GUID: v.Vendor.String(), Attr: uint32(v.Attributes), Data: hex.EncodeToString(v.Data)}
		if v.TimeStamp != (efi.Time{}) {
			p.Time = hex.EncodeToString(v.TimeStamp[:])
		}
		list = append(list, p)
	}
	return sorted(list)
}

// sorted leaves certdb out, which we keep with the variables that it speaks of.
func sorted(list []printed) []printed {
	list = slices.DeleteFunc(list, func(p printed) bool { return p.Name == "certdb" })
	slices.SortFunc(list, func(a, b printed) int { return strings.Compare(a.Name+a.GUID, b.Name+b.GUID) })
	return list
}

// virt-firmware reads and writes the stores of OVMF too, by code of its own: what it and we see is the same, in what
// Debian made, in what we made, and in what it made.
func TestVirtFirmwareReadsAndWritesTheSameStores(t *testing.T) {
	for _, name := range []string{"OVMF_VARS_4M.fd", "OVMF_VARS_4M.ms.fd", "OVMF_VARS_4M.snakeoil.fd"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			original, err := os.ReadFile("/usr/share/OVMF/" + name)
			if err != nil {
				t.Fatalf("%v (Debian package ovmf)", err)
			}
			file := filepath.Join(t.TempDir(), name)
			compare := func(b []byte, args ...string) *flash.Store {
				t.Helper()
				if err := os.WriteFile(file, b, 0o600); err != nil {
					t.Fatal(err)
				}
				theirs := virtFirmware(t, file, args...)
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				s, err := flash.Parse(b)
				if err != nil {
					t.Fatal(err)
				}
				if len(s.Notes) != 0 {
					t.Errorf("%q", s.Notes)
				}
				if d := cmp.Diff(theirs, ours(s)); d != "" {
					t.Errorf("virt-firmware sees -, we see +:\n%s", d)
				}
				return s
			}
			s := compare(original)
			rendered, err := flash.Render(s.Variables)
			if err != nil {
				t.Fatal(err)
			}
			compare(rendered)
			compare(rendered, "--enroll-redhat", "--secure-boot", "--set-true", "SHIM_VERBOSE",
				"--add-db-hash", "5e3f2d1c-8b7a-4f6e-9d5c-1a2b3c4d5e6f", strings.Repeat("ab", 32))
		})
	}
}

// What virt-firmware made of an empty store is imported by the service, and what the service exports has the same
// variables for virt-firmware, which goes on with it.
func TestVirtFirmwareAndTheServiceTakeEachOthersStores(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{})
	admin := s.Admin(t)
	if _, err := admin.CreateDomain(t.Context(), testbed.At(""), &generated.CreateDomainRequest{
		Name: new(generated.DomainName("one")), DomainKind: new(generated.DomainKindQemu),
	}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "VARS.fd")
	write(t, file, read(t, "/usr/share/OVMF/OVMF_VARS_4M.fd"))
	for _, changes := range [][]string{
		{"--enroll-redhat", "--secure-boot", "--set-true", "SHIM_VERBOSE", "--set-boot-uri", "http://192.0.2.1/boot.efi"},
		{"--add-db-hash", "5e3f2d1c-8b7a-4f6e-9d5c-1a2b3c4d5e6f", strings.Repeat("cd", 32), "--delete", "SHIM_VERBOSE"},
	} {
		theirs := virtFirmware(t, file, changes...)
		reply, err := admin.ImportVariables(t.Context(), testbed.At("one"), &generated.ImportVariablesRequest{VariableStore: read(t, file)})
		if err != nil || len(reply.ImportNote) != 0 || int(reply.VariableCount) != len(theirs) {
			t.Fatalf("%v: of %d variables, %+v: %v", changes, len(theirs), reply, err)
		}
		exported, err := admin.ExportVariables(t.Context(), testbed.At("one"), &generated.ExportVariablesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, exported.VariableStore)
		if d := cmp.Diff(theirs, virtFirmware(t, file)); d != "" {
			t.Errorf("%v: virt-firmware made -, and sees + in what is exported:\n%s", changes, d)
		}
	}
	state, err := admin.GetSecureBoot(t.Context(), testbed.At("one"), &generated.GetSecureBootRequest{})
	if err != nil || *state.SecureBoot.SecureBootMode != generated.SecureBootModeUserMode || *state.SecureBoot.SecureBootEnabled != generated.SecureBootSwitchOn {
		t.Errorf("%+v: %v", state, err)
	}
}
